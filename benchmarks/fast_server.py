"""A model server that costs next to nothing: fixed answers, an event per tick and stream, several ports.

It exists so that what is measured around it is the gateway. Run as ``python -m benchmarks.fast_server``.
"""

import argparse
import asyncio
import re
from pathlib import Path
from typing import Final, cast

import uvloop

MODEL: Final = "simulated-model"
_PAGE: Final = Path(__file__).parents[1] / "tests" / "data" / "metrics" / "vllm_real.prom"
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MAX_TOKENS: Final = re.compile(rb'"max_tokens": *(\d+)')
_STREAM: Final = re.compile(rb'"stream": *true')
_USAGE: Final = re.compile(rb'"include_usage": *true')
_LOAD: Final = re.compile(rb"(?m)^(vllm:num_requests_(?:running|waiting)[^ ]*) .*$")
_MEMBER_BYTES: Final = 400

_START: Final = b'{"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"simulated-model","choices":['
_JSON: Final = (
    b'{"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"simulated-model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"one two three"},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":500,"total_tokens":516,"completion_tokens":16}}'
)
_MODELS: Final = b'{"object":"list","data":[{"id":"simulated-model","object":"model","max_model_len":131072}]}'


def _event(data: bytes) -> bytes:
    payload = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(payload), payload)


_TOKEN: Final = _event(_START + b'{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}')
_USAGE_EVENT: Final = _event(_START + b'],"usage":{"prompt_tokens":500,"total_tokens":516,"completion_tokens":16}}')
_END: Final = _event(b"[DONE]") + b"0\r\n\r\n"
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _reply(body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(body), body)


def _idle_page() -> bytes:
    """Return a real server's metrics page that says nothing is under way."""
    return _LOAD.sub(rb"\1 0.0", _PAGE.read_bytes())


class Ticker:
    """Writes one event to every open stream at each tick."""

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._left: dict[Connection, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: "Connection", events: int) -> None:
        """Begin a stream: its first event goes out now."""
        self._left[connection] = events
        self._write(connection)
        if self._left and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._gap_seconds, self._tick)

    def remove(self, connection: "Connection") -> None:
        """Forget a stream whose connection is gone."""
        self._left.pop(connection, None)

    def _tick(self) -> None:
        for connection in list(self._left):
            self._write(connection)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._gap_seconds, self._tick) if self._left else None

    def _write(self, connection: "Connection") -> None:
        left = self._left[connection] = self._left[connection] - 1
        if left > 0:
            connection.write(_TOKEN)
        else:
            del self._left[connection]
            connection.write(_TOKEN + (_USAGE_EVENT if connection.wants_usage else b"") + _END)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection; understands requests with a content-length, one at a time."""

    def __init__(self, ticker: Ticker, page: bytes) -> None:
        self._ticker = ticker
        self._page = page
        self._parts = bytearray()
        self._needed = 0
        self._transport: asyncio.WriteTransport | None = None
        self.wants_usage = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._ticker.remove(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._parts += data
        while len(self._parts) >= self._needed:
            end = self._parts.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._parts, 0, end)
            self._needed = end + 4 + (int(length[1]) if length else 0)
            if len(self._parts) < self._needed:
                return
            request = bytes(self._parts[: self._needed])
            del self._parts[: self._needed]
            self._needed = 0
            self._answer(request, end + 4)

    def _answer(self, request: bytes, body: int) -> None:
        if request.startswith(b"POST"):
            # The members that matter stand before or after the long prompt.
            ends = request[body : body + _MEMBER_BYTES] + request[max(body, len(request) - _MEMBER_BYTES) :]
            tokens = _MAX_TOKENS.search(ends)
            if not _STREAM.search(ends):
                self.write(_reply(_JSON))
                return
            self.wants_usage = _USAGE.search(ends) is not None
            self.write(_STREAM_HEAD)
            self._ticker.add(self, int(tokens[1]) if tokens else 1)
        elif request.startswith(b"GET /metrics"):
            self.write(_reply(self._page, b"text/plain; version=0.0.4"))
        else:
            self.write(_reply(_MODELS if request.startswith(b"GET /v1/models") else b""))


async def _serve(ports: list[int], gap_seconds: float) -> None:
    ticker, page = Ticker(gap_seconds), _idle_page()
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(lambda: Connection(ticker, page), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, action="append", required=True)
    parser.add_argument("--gap-ms", type=float, default=2.0)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given.port, given.gap_ms / 1000))


if __name__ == "__main__":
    main()
