"""The target model of ``--pool NAME=…`` is what its servers serve alone; else the name that clients use."""

import pytest

from igw.pool_discovery import choose_target


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([], None, id="nobody-answers"),
        pytest.param([["base"]], "base", id="one-server-one-model"),
        pytest.param([["base"], ["base"]], "base", id="all-alike"),
        pytest.param([["base"], ["other"]], "name", id="servers-differ"),
        pytest.param([["base", "lora"]], "name", id="several-models"),
        pytest.param([[]], "name", id="no-model"),
    ],
)
def test_choose_target(answers: list[list[str]], expected: str | None) -> None:
    assert choose_target("name", answers) == expected
