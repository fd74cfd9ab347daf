"""A child's output comes out line by line, however its bytes are split, cut at a bound; only the last lines stay."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igw.child_process import OutputTail, describe_exit


def lines_of(*chunks: bytes) -> list[str]:
    seen: list[str] = []
    tail = OutputTail(seen.append)
    for chunk in chunks:
        tail.feed(chunk)
    tail.finish()
    return seen


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0, max_value=300), max_size=5))
def test_any_split_gives_the_same_lines(output: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(output), *(min(cut, len(output)) for cut in cuts)})
    chunks = [output[a:b] for a, b in itertools.pairwise(places)]
    assert lines_of(*chunks) == lines_of(output)


def test_long_lines_are_cut_and_memory_is_bounded() -> None:
    assert lines_of(*[b"x" * 1000] * 100, b"\nnext\n") == ["x" * 2000, "next"]


def test_only_the_last_lines_are_remembered() -> None:
    tail = OutputTail(lambda _: None)
    tail.feed(b"".join(b"%d\n" % number for number in range(100)))
    assert list(tail.lines) == [str(number) for number in range(80, 100)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(0, "exit code 0", id="zero"),
        pytest.param(-9, "signal SIGKILL", id="killed"),
        pytest.param(-99, "signal 99", id="unknown-signal"),
    ],
)
def test_describe_exit(code: int, said: str) -> None:
    assert describe_exit(code) == said
