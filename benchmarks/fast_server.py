"""Model servers that cost next to nothing: fixed answers, an event per tick and stream, a port for each server.

They exist so that what is measured around them is the gateway. Like a real server, each port writes the next event of
all its streams at the same moment, and ports do so at different moments. Each has the metrics page of a real server;
what changes on it from one reading to the next is computed, above all the KV-cache gauge, which tells when the
page was made (`page_age`). A stream whose request has ``"quiet":true`` falls silent after its first event until
``/release`` is asked for, on any port. ``/counts`` tells how often which page was asked for.

Run as ``python -m benchmarks.fast_server``; it takes free ports and writes their numbers to a file.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

import uvloop

MODEL: Final = "simulated-model"

_HOST: Final = "127.0.0.1"
_PAGE: Final = Path(__file__).parents[1] / "tests" / "data" / "metrics" / "vllm_real.prom"
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MAX_TOKENS: Final = re.compile(rb'"max_tokens": *(\d+)')
_STREAM: Final = re.compile(rb'"stream": *true')
_QUIET: Final = re.compile(rb'"quiet": *true')
_USAGE: Final = re.compile(rb'"include_usage": *true')
_WAITING: Final = re.compile(rb"(?m)^(vllm:num_requests_waiting[^ ]*) .*$")
_CHANGING: Final = (
    rb"(?m)^(process_cpu_seconds_total|vllm:num_requests_running\S*|vllm:kv_cache_usage_perc\S*"
    rb"|vllm:prompt_tokens_total\S*|vllm:generation_tokens_total\S*) .*$"
)
_MEMBER_BYTES: Final = 400
_LOWEST_GAUGE: Final = 0.2
_CLOCK_ROUND: Final = 1000.0
_CLOCK_SCALE: Final = 10_000.0

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


def clock_gauge(now: float) -> float:
    """Return *now*, a reading of the monotonic clock, as a KV-cache utilization a little above a fifth."""
    return _LOWEST_GAUGE + now % _CLOCK_ROUND / _CLOCK_SCALE


def page_age(gauge: float, now: float) -> float:
    """Return how long before *now* a page with this KV-cache utilization was made; below a thousand seconds."""
    return (now - (gauge - _LOWEST_GAUGE) * _CLOCK_SCALE) % _CLOCK_ROUND


class MetricsPage:
    """A real page cut where its values change."""

    def __init__(self, source: bytes) -> None:
        self._parts = re.split(_CHANGING, _WAITING.sub(rb"\1 0.0", source))

    def render(self, running: int, now: float) -> bytes:
        """Return the page of an endpoint with so many *running* requests at *now*."""
        values = {
            b"process_cpu_seconds_total": now * 0.05,
            b"vllm:num_requests_running": float(running),
            b"vllm:kv_cache_usage_perc": clock_gauge(now),
            b"vllm:prompt_tokens_total": float(int(now * 100)),
            b"vllm:generation_tokens_total": float(int(now * 20)),
        }
        out = [self._parts[0]]
        for name, rest in zip(self._parts[1::2], self._parts[2::2], strict=True):
            out.append(b"%b %b%b" % (name, repr(values[name.partition(b"{")[0]]).encode(), rest))
        return b"".join(out)


@dataclass(slots=True)
class Counts:
    """What was asked for, over all ports."""

    pages: int = 0
    chats: int = 0
    body_bytes: int = 0


class Endpoint:
    """One port: at each tick it writes one event to every open stream."""

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._left: dict[Connection, int] = {}
        self._quiet: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Open streams."""
        return len(self._left) + len(self._quiet)

    def add(self, connection: "Connection", events: int, *, quiet: bool) -> None:
        """Begin a stream: its first event goes out now."""
        if quiet:
            connection.write(_TOKEN)
            self._quiet[connection] = None
            return
        self._left[connection] = events
        self._write(connection)
        if self._left and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._gap_seconds, self._tick)

    def remove(self, connection: "Connection") -> None:
        """Forget a stream whose connection is gone."""
        self._left.pop(connection, None)
        self._quiet.pop(connection, None)

    def release(self) -> None:
        """End the quiet streams."""
        for connection in self._quiet:
            connection.end_stream()
        self._quiet.clear()

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
            connection.end_stream()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection; understands requests with a content-length, one at a time.

    Of a body only both ends are kept: the members that matter stand before or after the long prompt, and a large body
    must not hold up the answers to others.
    """

    def __init__(self, endpoint: Endpoint, release: Callable[[], None], page: MetricsPage, counts: Counts) -> None:
        self._endpoint = endpoint
        self._release = release
        self._page = page
        self._counts = counts
        self._head = b""
        self._body = bytearray()
        self._left = -1  # bytes of the body to come; -1: the head is not complete
        self._transport: asyncio.WriteTransport | None = None
        self._wants_usage = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._endpoint.remove(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def end_stream(self) -> None:
        """Write the last event and what ends a stream."""
        self.write(_TOKEN + (_USAGE_EVENT if self._wants_usage else b"") + _END)

    def data_received(self, data: bytes) -> None:
        while data:
            if self._left < 0:
                self._head += data
                end = self._head.find(b"\r\n\r\n") + 4
                if end < 4:
                    return
                length = _LENGTH.search(self._head, 0, end)
                self._left = int(length[1]) if length else 0
                data, self._head = self._head[end:], self._head[:end]
            taken = data[: self._left]
            data = data[len(taken) :]
            self._left -= len(taken)
            self._counts.body_bytes += len(taken)
            self._body += taken
            if len(self._body) > 4 * _MEMBER_BYTES:
                del self._body[_MEMBER_BYTES:-_MEMBER_BYTES]
            if self._left:
                return
            head, body = self._head, bytes(self._body)
            self._head, self._left = b"", -1
            self._body.clear()
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST"):
            self._counts.chats += 1
            if not _STREAM.search(body):
                self.write(_reply(_JSON))
                return
            tokens = _MAX_TOKENS.search(body)
            self._wants_usage = _USAGE.search(body) is not None
            self.write(_STREAM_HEAD)
            self._endpoint.add(self, int(tokens[1]) if tokens else 1, quiet=_QUIET.search(body) is not None)
        elif head.startswith(b"GET /metrics"):
            self._counts.pages += 1
            page = self._page.render(self._endpoint.running, time.monotonic())
            self.write(_reply(page, b"text/plain; version=0.0.4"))
        elif head.startswith(b"GET /counts"):
            counts = {"pages": self._counts.pages, "chats": self._counts.chats, "body_bytes": self._counts.body_bytes}
            self.write(_reply(json.dumps(counts).encode()))
        elif head.startswith(b"GET /release"):
            self._release()
            self.write(_reply(b""))
        else:
            self.write(_reply(_MODELS if head.startswith(b"GET /v1/models") else b""))


async def _serve(count: int, ports_file: Path, gap_seconds: float) -> None:
    page, counts = MetricsPage(_PAGE.read_bytes()), Counts()
    endpoints = [Endpoint(gap_seconds) for _ in range(count)]

    def release() -> None:
        for endpoint in endpoints:
            endpoint.release()

    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(partial(Connection, endpoint, release, page, counts), _HOST, 0, backlog=1024)
        for endpoint in endpoints
    ]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    draft = ports_file.with_suffix(".draft")
    draft.write_text(json.dumps(ports), encoding="utf-8")
    draft.replace(ports_file)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True, help="ports")
    parser.add_argument("--ports-file", type=Path, required=True, help="where their numbers are written, as JSON")
    parser.add_argument("--gap-ms", type=float, default=2.0)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given.count, given.ports_file, given.gap_ms / 1000))


if __name__ == "__main__":
    main()
