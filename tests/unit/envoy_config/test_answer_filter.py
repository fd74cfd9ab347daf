"""The Lua filter passes a stream on exactly as the picker's own filter does, and reads usage, however it is cut.

Two differences are known: an event that the stream's end leaves incomplete, which no client may use, is dropped; and
broken JSON that looks like a usage event goes too.
"""

import itertools
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.requestcontrol.stream_usage_filter import StreamUsageFilter
from envoy_config import names
from envoy_config.answer_filter import Reads, lua_source

luajit21 = pytest.importorskip("lupa.luajit21", reason="Envoy runs LuaJIT; PyPI lupa brings it")

USAGE = b'{"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}'
TEXT = b'{"choices":[{"index":0,"delta":{"content":"\\"choices\\":[] \\"usage\\":{}"}}],"usage":null}'
LIMIT = 1_048_576


class Chunk:
    """A buffer of Envoy's Lua interface."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def length(self) -> int:
        return len(self.data)

    def getBytes(self, start: int, length: int) -> bytes:  # noqa: N802 - Envoy's name
        return self.data[start : start + length]

    def setBytes(self, data: bytes) -> None:  # noqa: N802 - Envoy's name
        self.data = data


class Headers(dict[bytes, bytes]):
    def remove(self, name: bytes) -> None:
        self.pop(name, None)


class Handle:
    """What Envoy hands to `envoy_on_response`."""

    def __init__(self, runtime: Any, chunks: Sequence[bytes], *, added: bool, content_type: bytes) -> None:
        self.chunks = [Chunk(chunk) for chunk in chunks]
        self.headers_ = Headers({b"content-type": content_type, b"content-length": b"1"})
        self.read: dict[bytes, Any] = {}
        self._ours = {names.INCLUDE_USAGE_ADDED.encode(): True} if added else None
        self._runtime = runtime

    def get(self, namespace: bytes) -> Any:
        assert namespace == names.METADATA_NAMESPACE.encode()
        return None if self._ours is None else self._runtime.table_from(self._ours)

    def set(self, namespace: bytes, key: bytes, value: Any) -> None:
        assert namespace == names.METADATA_NAMESPACE.encode()
        self.read[key] = value


@cache
def filter_runtime(reads: Reads) -> Any:
    runtime = luajit21.LuaRuntime(encoding=None)
    runtime.execute(lua_source(reads=reads).encode())
    return runtime


def respond(
    chunks: Sequence[bytes], *, added: bool = True, reads: Reads = "nothing", kind: bytes = b"text/event-stream"
) -> Handle:
    runtime = filter_runtime(reads)
    handle = Handle(runtime, chunks, added=added, content_type=kind)
    runtime.globals()[b"envoy_on_response"](wrapped(runtime, handle))
    return handle


def wrapped(runtime: Any, handle: Handle) -> Any:
    """Return *handle* as Lua tables of functions; Lua's `a:b()` passes the table, which a bound method has already."""

    def methods_of(target: Any, *method_names: str) -> Any:
        def method(name: str) -> Any:
            def call(_self: Any, *arguments: Any) -> Any:
                return getattr(target, name)(*arguments)

            return call

        return runtime.table_from({name.encode(): method(name) for name in method_names})

    chunks = iter([methods_of(chunk, "length", "getBytes", "setBytes") for chunk in handle.chunks])
    metadata = methods_of(handle, "get", "set")
    info = runtime.table_from({b"dynamicMetadata": lambda _self: metadata})
    headers = methods_of(handle.headers_, "get", "remove")
    return runtime.table_from(
        {
            b"streamInfo": lambda _self: info,
            b"headers": lambda _self: headers,
            b"bodyChunks": lambda _self: lambda *_state: next(chunks, None),
        }
    )


def filtered(chunks: Sequence[bytes]) -> bytes:
    return b"".join(chunk.data for chunk in respond(chunks).chunks)


def twin(chunks: Sequence[bytes]) -> bytes:
    stream = StreamUsageFilter(max_event_bytes=LIMIT)
    return b"".join(stream.feed(chunk) for chunk in chunks)


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


EVENTS = st.sampled_from(
    [
        b"data: " + USAGE,
        b"data:" + USAGE,
        b'data: {"usage": {"prompt_tokens": 1}, "choices": [ ]}',
        b"data: " + TEXT,
        b": note\ndata: " + USAGE,
        b"event: x\ndata: " + USAGE,
        b'data: {"choices":[\ndata: ],"usage":{}}',
        b"data: [DONE]",
        b"data: [\ndata: " + USAGE,
        b'data: {"choices":[],"usage":null}',
        b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}',
        b'data: {"type":"message_delta","usage":{"output_tokens":3}}',
        b": keep-alive",
        b"",
    ]
)
BLANK_LINES = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\n\r", b"\r\r\n"])
CUTS = st.lists(st.integers(min_value=0, max_value=2000), max_size=12)


@given(st.lists(st.tuples(EVENTS, BLANK_LINES), max_size=12), CUTS)
def test_it_passes_what_the_pickers_filter_passes(events: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(b"".join(parts) for parts in events)
    assert filtered(cut(stream, cuts)) == twin([stream])


@given(st.lists(st.tuples(EVENTS, BLANK_LINES), min_size=1, max_size=3))
def test_byte_by_byte_is_no_different(events: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(b"".join(parts) for parts in events)
    assert filtered([bytes([byte]) for byte in stream]) == twin([stream])


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([b"data: [DONE]"], b"data: [DONE]", id="done-without-terminator-is-not-held"),
        pytest.param([b"data: [DO", b"NE]\n\n"], b"data: [DONE]\n\n", id="done-in-two-pieces"),
        pytest.param([b"data: a\n\nda"], b"data: a\n\n", id="an-incomplete-end-is-dropped"),
        pytest.param([b"", b"data: a\n\n", b""], b"data: a\n\n", id="empty-chunks"),
        pytest.param(
            [b"data: [x]\n", b"\ndata: " + USAGE + b"\n\n"], b"data: [x]\n\n", id="terminator-over-two-chunks"
        ),
    ],
)
def test_ends_and_edges(chunks: list[bytes], expected: bytes) -> None:
    assert filtered(chunks) == expected


@pytest.mark.parametrize("extra", [-1, 0, 1, 5000])
def test_an_event_above_the_limit_passes(extra: int) -> None:
    padding = b" " * (LIMIT - len(b"data: " + USAGE) + extra)
    stream = b"data: " + USAGE + padding + b"\n\ndata: " + USAGE + b"\n\n"
    chunks = cut(stream, range(0, len(stream), 65_536))
    assert filtered(chunks) == twin([stream])


def test_an_answer_that_is_not_ours_to_change_keeps_every_byte_and_its_length() -> None:
    stream = b"data: " + USAGE + b"\n\n"
    for answer in (respond([stream], added=False), respond([stream], kind=b"application/json")):
        assert (answer.chunks[0].data, b"content-length" in answer.headers_) == (stream, True)


def test_a_changed_answer_has_no_stated_length() -> None:
    assert b"content-length" not in respond([b"data: " + USAGE + b"\n\n"]).headers_


@given(st.booleans(), CUTS, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_usage_is_read_however_the_answer_is_cut(streamed: bool, cuts: list[int], separators: tuple[str, str]) -> None:
    usage = {
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    body = json.dumps({"choices": [], "usage": usage}, separators=separators).encode()
    stream = b"data: " + TEXT + b"\n\ndata: " + body + b"\n\ndata: [DONE]\n\n" if streamed else body
    answer = respond(cut(stream, cuts), added=streamed, reads="everything")
    assert answer.read == {
        names.USAGE_PROMPT.encode(): 11,
        names.USAGE_COMPLETION.encode(): 5,
        names.USAGE_TOTAL.encode(): 16,
        names.USAGE_CACHED.encode(): 4,
        names.USAGE_REASONING.encode(): 2,
    }


@pytest.mark.parametrize(
    ("kind", "added", "read"),
    [
        pytest.param(b"application/json", True, True, id="json"),
        pytest.param(b"application/vnd.x+json; charset=utf-8", True, True, id="other-json"),
        pytest.param(b"text/event-stream", True, False, id="a-stream"),
        pytest.param(b"application/json", False, False, id="not-decided-by-the-picker"),
    ],
)
def test_beside_envoys_own_filters_whole_answers_are_read(kind: bytes, added: bool, read: bool) -> None:
    answer = respond([USAGE], added=added, reads="whole answers", kind=kind)
    assert bool(answer.read) is read
