"""Model servers that break every rule: each answers with exactly the bytes, pauses and ends that a test gives it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""Writes the answer to one request, its head included, and returns whether another may follow on the connection."""


def head(*fields: str, status: str = "200 OK") -> bytes:
    """Head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def json_head(length: int, *fields: str, status: str = "200 OK") -> bytes:
    """Head of a JSON answer that says it has *length* bytes."""
    return head("content-type: application/json", f"content-length: {length}", *fields, status=status)


STREAM_HEAD = head("content-type: text/event-stream; charset=utf-8", "transfer-encoding: chunked")
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """*data* as one chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def plays(*pieces: bytes, pause: float = 0.0) -> Script:
    """A script that writes *pieces* and ends."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        return False

    return play


def answers(*pieces: bytes, pause: float = 0.0) -> Script:
    """A script that writes *pieces* and waits for the next request."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await plays(*pieces, pause=pause)(reader, writer)
        return True

    return play


def repeats(start: bytes, piece: bytes, *, pause: float = 0.0) -> Script:
    """A script that writes *start* and then *piece* as long as anyone reads it."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(start)
        while not reader.at_eof():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        return False

    return play


def hangs_after(*pieces: bytes) -> Script:
    """A script that writes *pieces* and never ends."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await plays(*pieces)(reader, writer)
        await reader.read()
        return False

    return play


def resets_after(*pieces: bytes) -> Script:
    """A script that writes *pieces* and resets the connection."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await plays(*pieces, pause=0.02)(reader, writer)
        writer.transport.abort()
        return False

    return play


def in_turn(*scripts: Script) -> Script:
    """A script that plays the first of *scripts* for the first request, and so on; the last for all that follow."""
    left = list(scripts)

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        return await (left.pop(0) if len(left) > 1 else left[0])(reader, writer)

    return play


def page(text: str | bytes, *fields: str) -> Script:
    """A script for a metrics page."""
    body = text.encode() if isinstance(text, str) else text
    return answers(head("content-type: text/plain", f"content-length: {len(body)}", *fields) + body)


IDLE_PAGE: Final = "vllm:num_requests_waiting 0\nvllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0\n"
"""What a server without work says."""


def adapter_page(adapter: str = "") -> Script:
    """Metrics page of a server without work that has *adapter* loaded, or room for one."""
    labels = f'max_lora="1",running_lora_adapters="{adapter}",waiting_lora_adapters=""'
    return page(f"{IDLE_PAGE}vllm:lora_requests_info{{{labels}}} 1\n")


@dataclass(slots=True)
class FaultyServer:
    """Answers every POST by one script, and every GET, which asks for its metrics page, by another.

    Attributes:
        port: Where it listens.
        script: What comes back.
        page: What comes back as a metrics page.
        pages_asked: How often it was asked for.
        bodies: Of the requests, oldest first.
        open: Requests whose script has not ended.
    """

    port: int = 0
    script: Script = field(default_factory=hangs_after)
    page: Script = field(default_factory=lambda: page(IDLE_PAGE))
    pages_asked: int = 0
    bodies: list[bytes] = field(default_factory=list)
    open: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway left
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return whether another may follow on the connection."""
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if not request.startswith("POST"):
            self.pages_asked += 1
            return await self.page(reader, writer)
        fields = dict(line.lower().split(": ", 1) for line in request.splitlines() if ": " in line)
        self.bodies.append(await reader.readexactly(int(fields["content-length"])))
        self.open += 1
        try:
            return await self.script(reader, writer)
        finally:
            self.open -= 1


@asynccontextmanager
async def faulty_server(script: Script | None = None, *, metrics: Script | None = None) -> AsyncIterator[FaultyServer]:
    """A faulty server on loopback; without *script* it never answers, and without *metrics* it tells of no work."""
    faulty = FaultyServer(script=script or hangs_after(), page=metrics or page(IDLE_PAGE))
    server = await asyncio.start_server(faulty._serve, "127.0.0.1", 0)
    faulty.port = server.sockets[0].getsockname()[1]
    try:
        yield faulty
    finally:
        server.close()
