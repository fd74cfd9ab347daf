"""A model list is taken as far as it is one; anything else is no list, which is not the same as an empty one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.datalayer.served_models import MAX_MODELS, read_model_list


@pytest.mark.parametrize(
    ("body", "models"),
    [
        pytest.param(b'{"object":"list","data":[{"id":"a"},{"id":"b"}]}', ("a", "b"), id="list"),
        pytest.param(b'{"data":[{"id":"b"},{"id":"a"},{"id":"b"}]}', ("b", "a"), id="repetition"),
        pytest.param(b'{"data":[]}', (), id="empty"),
        pytest.param(b'{"data":[{"id":7},{"id":""},3,{"name":"x"},{"id":"ok"}]}', ("ok",), id="odd-entries"),
        pytest.param(b'{"data":{"id":"a"}}', None, id="not-a-list"),
        pytest.param(b"[]", None, id="not-an-object"),
        pytest.param(b"{", None, id="cut"),
        pytest.param(b"\xff\xfe", None, id="not-text"),
        pytest.param(b"[" * 100_000, None, id="deep"),
    ],
)
def test_read_model_list(body: bytes, models: tuple[str, ...] | None) -> None:
    assert read_model_list(body) == models


def test_list_is_bounded() -> None:
    entries = [{"id": f"m{i}"} for i in range(MAX_MODELS + 10)] + [{"id": "x" * 10_000}]
    assert len(read_model_list(json.dumps({"data": entries}).encode()) or ()) == MAX_MODELS


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_raising(body: bytes) -> None:
    read_model_list(body)
