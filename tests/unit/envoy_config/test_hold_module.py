"""The hold filter lets an answer go with its first event, and turns an error that comes before any into a status.

The module runs in a host of ours that does what Envoy does: bytes of a body that is to wait are kept and shown again
with what follows them.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import Caller, Engine, Func, FuncType, Instance, Memory, Module, Store, ValType

from envoy_config.hold_module import HOLD_MODULE_BASE64

ENGINE = Engine()
MODULE = Module(ENGINE, base64.b64decode(HOLD_MODULE_BASE64))
MOST = 16_384
OK = {":status": "200", "content-type": "text/event-stream", "content-length": "7"}
DONE = b"data: [DONE]\n\n"
DEAD = {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}
TOKEN = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'


def event(document: object, *, end: str = "\n") -> bytes:
    return f"data: {json.dumps(document)}{end}{end}".encode()


@dataclass
class Stream:
    """One answer on its way through the filter."""

    context: int
    headers: dict[str, str] = field(default_factory=lambda: dict(OK))
    held: bytes = b""
    gone: bytes = b""
    let_go: bool = False


class Host:
    """Runs the module for any number of answers."""

    def __init__(self) -> None:
        self.store = Store(ENGINE)
        self.now = Stream(0)
        i32 = ValType.i32()

        def func(arity: int, call: object) -> Func:
            return Func(self.store, FuncType([i32] * arity, [i32]), call, access_caller=True)  # type: ignore[arg-type]

        calls = {
            "proxy_get_buffer_bytes": func(5, self._get_buffer),
            "proxy_set_buffer_bytes": func(5, self._set_buffer),
            "proxy_get_header_map_value": func(5, self._get_header),
            "proxy_replace_header_map_value": func(5, self._set_header),
            "proxy_remove_header_map_value": func(3, self._remove_header),
        }
        self.exports = Instance(self.store, MODULE, [calls[entry.name or ""] for entry in MODULE.imports]).exports(
            self.store
        )
        self._contexts = 1

    @property
    def memory(self) -> Memory:
        return cast("Memory", self.exports["memory"])

    def call(self, name: str, *arguments: int) -> int:
        return cast("int", cast("Func", self.exports[name])(self.store, *arguments))

    def begin(self, status: int = 200, *, context: int = 0) -> Stream:
        """Give the filter the headers of an answer with a body."""
        self._contexts += 1
        stream = Stream(context or self._contexts)
        stream.headers[":status"] = str(status)
        self.now = stream
        assert self.call("proxy_on_response_headers", stream.context, 3, 0) == 1
        return stream

    def feed(self, stream: Stream, data: bytes, *, end: bool = False) -> None:
        """Give the filter some more of a body."""
        self.now = stream
        stream.held += data
        if self.call("proxy_on_response_body", stream.context, len(stream.held), int(end)) == 0:
            stream.gone += stream.held
            stream.held = b""
            stream.let_go = True

    def _give(self, caller: Caller, value: bytes, at: int, size: int) -> int:
        place = cast("int", cast("Func", caller["proxy_on_memory_allocate"])(caller, len(value)))
        memory = cast("Memory", caller["memory"])
        memory.write(caller, value, place)
        memory.write(caller, place.to_bytes(4, "little"), at)
        memory.write(caller, len(value).to_bytes(4, "little"), size)
        return 0

    @staticmethod
    def _read(caller: Caller, at: int, size: int) -> bytes:
        return bytes(cast("Memory", caller["memory"]).read(caller, at, at + size))

    def _get_buffer(self, caller: Caller, kind: int, start: int, most: int, at: int, size: int) -> int:
        assert (kind, start) == (1, 0)
        return self._give(caller, self.now.held[:most], at, size)

    def _set_buffer(self, caller: Caller, kind: int, start: int, replaced: int, at: int, size: int) -> int:
        assert (kind, start, replaced) == (1, 0, len(self.now.held))
        self.now.held = self._read(caller, at, size)
        return 0

    def _get_header(self, caller: Caller, kind: int, name: int, length: int, at: int, size: int) -> int:
        assert kind == 2
        return self._give(caller, self.now.headers[self._read(caller, name, length).decode()].encode(), at, size)

    def _set_header(self, caller: Caller, kind: int, name: int, length: int, at: int, size: int) -> int:
        assert (kind, self.now.let_go) == (2, False)
        self.now.headers[self._read(caller, name, length).decode()] = self._read(caller, at, size).decode()
        return 0

    def _remove_header(self, caller: Caller, kind: int, name: int, length: int) -> int:
        assert (kind, self.now.let_go) == (2, False)
        self.now.headers.pop(self._read(caller, name, length).decode(), None)
        return 0


HOST = Host()


def passed(chunks: Sequence[bytes], *, status: int = 200) -> Stream:
    """Return an answer of these chunks after its end."""
    stream = HOST.begin(status)
    for chunk in chunks:
        HOST.feed(stream, chunk)
    HOST.feed(stream, b"", end=True)
    assert stream.held == b""
    return stream


@pytest.mark.parametrize(
    ("body", "status", "document"),
    [
        pytest.param(event(DEAD) + DONE, "500", DEAD, id="vllm"),
        pytest.param(event(DEAD, end="\r\n") + DONE, "500", DEAD, id="crlf"),
        pytest.param(b": ping\n\n: ping\n\n" + event(DEAD), "500", DEAD, id="after-comments"),
        pytest.param(b'data:{"error":"out of memory"}\n\n', "500", {"error": "out of memory"}, id="a-text"),
        pytest.param(event({"error": {"code": 429}}), "429", {"error": {"code": 429}}, id="its-own-status"),
        pytest.param(event({"error": {"code": "503"}}), "503", {"error": {"code": "503"}}, id="as-text"),
        pytest.param(event({"error": {"code": 400}}), "400", {"error": {"code": 400}}, id="the-clients-own"),
        pytest.param(event({"error": {"code": 200}}), "500", {"error": {"code": 200}}, id="no-error-status"),
        pytest.param(event({"error": {"code": 5000}}), "500", {"error": {"code": 5000}}, id="four-digits"),
        pytest.param(event({"error": {"code": None}}), "500", {"error": {"code": None}}, id="no-code"),
        pytest.param(
            event({"error": {"message": 'say "code": 404', "code": 502}}),
            "502",
            {"error": {"message": 'say "code": 404', "code": 502}},
            id="not-what-the-message-says",
        ),
        pytest.param(
            b'event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n',
            "500",
            {"type": "error", "error": {"type": "api_error"}},
            id="an-event-called-error",
        ),
    ],
)
def test_an_error_before_any_event_becomes_a_status_and_a_json_body(body: bytes, status: str, document: object) -> None:
    stream = passed([body])
    assert stream.headers == {":status": status, "content-type": "application/json"}
    assert json.loads(stream.gone) == document


PASSES = {
    "events": TOKEN + event(DEAD) + DONE,
    "json": b'{"error":{"code":500}}',
    "nothing": b"",
    "comments-only": b": ping\n\n",
    "blank-lines": b"\n\n\r\n",
    "another-event": b'event: message_start\ndata: {"error":{}}\n\n',
    "an-event-with-a-longer-name": b'event: errors\ndata: {"error":{}}\n\n',
    "error-is-null": event({"error": None, "choices": []}),
    "error-is-not-first": event({"id": "1", "error": {"code": 500}}),
    "another-word": event({"errors": {"code": 500}}),
    "a-list": event([DEAD]),
    "the-end": DONE,
    "half-an-event": b'data: {"err',
    "half-a-name": b"even",
    "no-object-in-an-error": b"event: error\ndata: sorry\n\n",
    "no-data-in-an-error": b"event: error\nid: 7\n\n",
}


@pytest.mark.parametrize("name", PASSES)
def test_anything_else_passes_as_it_is(name: str) -> None:
    stream = passed([PASSES[name]])
    assert (stream.headers, stream.gone) == (OK, PASSES[name])


def test_an_error_with_an_error_status_passes_as_it_is() -> None:
    stream = passed([event(DEAD)], status=503)
    assert (stream.headers[":status"], stream.gone) == ("503", event(DEAD))


def test_an_answer_without_a_body_goes_on_at_once() -> None:
    assert HOST.call("proxy_on_response_headers", 77, 3, 1) == 0


@pytest.mark.parametrize("first", [TOKEN, b'{"id"', b"<html>", b"data: ok"])
def test_the_first_event_lets_the_answer_go_at_once(first: bytes) -> None:
    stream = HOST.begin()
    HOST.feed(stream, first)
    assert stream.gone == first


@pytest.mark.parametrize("first", [b": keep-alive\n\n", b"\n", b"da", b'data: {"error": {"message": "Eng'])
def test_what_says_nothing_yet_is_held(first: bytes) -> None:
    stream = HOST.begin()
    HOST.feed(stream, first)
    assert not stream.let_go


@pytest.mark.parametrize("begin", [b": " + b"x" * MOST, b"\n" * MOST])
def test_a_long_beginning_is_not_held_for_ever(begin: bytes) -> None:
    stream = HOST.begin()
    HOST.feed(stream, begin[: MOST - 1])
    assert not stream.let_go
    HOST.feed(stream, begin[MOST - 1 :])
    assert stream.gone == begin


def test_a_long_error_keeps_its_body_and_gets_its_status() -> None:
    body = event({"error": {"code": 502, "message": "x" * MOST}})
    stream = passed([body])
    assert (stream.headers[":status"], stream.gone) == ("502", body)


def test_answers_at_the_same_time_do_not_disturb_each_other() -> None:
    bad, good = HOST.begin(), HOST.begin()
    HOST.feed(bad, event(DEAD)[:9])
    HOST.feed(good, TOKEN)
    HOST.feed(bad, event(DEAD)[9:])
    HOST.feed(good, event(DEAD))
    HOST.feed(bad, DONE)
    assert (bad.headers[":status"], json.loads(bad.gone)) == ("500", DEAD)
    assert (good.headers, good.gone) == (OK, TOKEN + event(DEAD))


def test_of_two_answers_at_one_place_the_first_passes_unread() -> None:
    first = HOST.begin(context=1_000_000)
    second = HOST.begin(context=1_000_000 + 8192)
    HOST.feed(first, event(DEAD))
    HOST.feed(second, event(DEAD))
    assert (first.headers[":status"], first.gone) == ("200", event(DEAD))
    assert second.headers[":status"] == "500"


def test_memory_does_not_grow_with_the_number_of_answers() -> None:
    for _ in range(50):
        passed([event({"error": {"code": 500, "message": "x" * 9000}})])
    assert HOST.memory.size(HOST.store) == 2


def _pieces(body: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return (body[a:b] for a, b in pairwise(places))


@given(
    st.one_of(
        st.sampled_from([*PASSES.values(), event(DEAD) + DONE, b": a\r\n\r\n" + event(DEAD) + TOKEN]),
        st.lists(
            st.sampled_from([b"data:", b" ", b"{", b'"error"', b":", b"{", b'"code"', b"429", b"}", b"\n", b"event:"])
        ).map(b"".join),
        st.binary(max_size=60),
    ),
    st.lists(st.integers(0, 500), max_size=8),
)
def test_however_the_bytes_are_cut_the_answer_is_the_same(body: bytes, cuts: Sequence[int]) -> None:
    whole, cut = passed([body]), passed(list(_pieces(body, cuts)))
    assert (whole.headers, whole.gone) == (cut.headers, cut.gone)
    if whole.headers == OK:
        assert whole.gone == body
