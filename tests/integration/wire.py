"""Both ends of a gateway, byte by byte: clients that keep no rule, and a server that keeps all and forgets nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

SECONDS = 20.0
"""Patience of every client here; only a failing test waits so long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it stood on the wire; status 0: the connection ended without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error of the answer; fails where it has another form."""
        assert self.headers.get("content-type") == "application/json", self
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, self
        assert error["message"], self
        return dict(error)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it reached a server."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.partition(b"\r\n")[0].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name; repeated ones joined by a comma."""
        found: dict[str, str] = {}
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            found[name.lower()] = f"{found[name.lower()]},{value.strip()}" if name.lower() in found else value.strip()
        return found


class WireServer:
    """An HTTP/1.1 server that reads to the letter and answers with further *headers*.

    Attributes:
        port: Where it listens.
        status: Of each answer.
        delay_seconds: Before each answer.
        received: Every request of a client, oldest first.
        garbage: What was no request.
    """

    def __init__(self, headers: Sequence[str] = ()) -> None:
        self.port = 0
        self.status = 200
        self.delay_seconds = 0.0
        self.received: list[Received] = []
        self.garbage: list[bytes] = []
        self._headers = "".join(f"{header}\r\n" for header in headers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await self._read(reader)) is not None:
                status = 404
                if b"user-agent: inference-gateway" not in request.head.lower():  # the picker's, for a metrics page
                    status = self.status
                    self.received.append(request)
                    await asyncio.sleep(self.delay_seconds)
                writer.write(f"HTTP/1.1 {status} Status\r\ncontent-length: 2\r\n{self._headers}\r\nok".encode())
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Received | None:
        raw = b""
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
            head = raw[:-4]
            fields = [line.lower() for line in head.split(b"\r\n")[1:]]
            lengths = [line.partition(b":")[2].strip() for line in fields if line.startswith(b"content-length:")]
            if b"transfer-encoding: chunked" in fields:
                assert not lengths, head
                return Received(head, await self._chunked(reader))
            assert len(lengths) <= 1, head
            return Received(head, await reader.readexactly(int(lengths[0]) if lengths else 0))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, AssertionError, ValueError) as error:
            if partial := raw + getattr(error, "partial", b""):
                self.garbage.append(partial)
            return None

    @staticmethod
    async def _chunked(reader: asyncio.StreamReader) -> bytes:
        body = b""
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            chunk = await reader.readexactly(size + 2)
            assert chunk.endswith(b"\r\n"), chunk
            if not size:
                return body
            body += chunk[:-2]

    def only(self, marker: str) -> Received:
        """The one request whose head holds *marker*."""
        (request,) = self.of(marker)
        return request

    def of(self, marker: str) -> list[Received]:
        """Requests whose head or body holds *marker*."""
        return [r for r in self.received if marker.encode() in r.head or marker.encode() in r.body]


@asynccontextmanager
async def wire_server(headers: Sequence[str] = ()) -> AsyncIterator[WireServer]:
    served = WireServer(headers)
    server = await asyncio.start_server(served._serve, "127.0.0.1", 0, limit=1 << 22)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()


def request(
    line: bytes = b"POST /v1/chat/completions HTTP/1.1", *fields: bytes, body: bytes | None = None, host: bytes = b"x"
) -> bytes:
    """A request; *body* brings its content-length, None leaves framing to *fields*."""
    lines = [line, b"host: " + host, b"content-type: application/json", *fields]
    if body is not None:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


async def send(port: int, data: bytes, *, close: bool = False) -> Answer:
    """Send bytes on a connection of their own and return the first answer; *close*: after saying that no more comes."""
    (answer,) = await send_all(port, data, answers=1, close=close)
    return answer


async def send_all(port: int, data: bytes, *, answers: int, close: bool = False) -> list[Answer]:
    """Send bytes on a connection of their own and return as many answers."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        try:
            with suppress(ConnectionError):  # a refusal may come, and the connection go, while we still send
                writer.write(data)
                await writer.drain()
                if close:
                    writer.write_eof()
            return [await _answer(reader) for _ in range(answers)]
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        if status == 100:
            return await _answer(reader)
        fields = (line.partition(": ") for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, _, value in fields}
        return Answer(status, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer()


def field_lines(names: Iterable[str], value: str) -> list[bytes]:
    """Header lines of *names*, all with one value."""
    return [f"{name}: {value}".encode() for name in names]
