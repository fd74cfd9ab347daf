"""An HTTP/1.1 client that costs little: one answer at a time per connection, nothing parsed that is not needed.

On a machine with few processors an ordinary client is the dearest process of a benchmark and its own slowness shows in
every latency. This one understands exactly what the gateway sends: a length or chunks.
"""

import asyncio
import re
import time
from typing import Final, Self, cast

from benchmarks.client import Exchange
from igw.listen_address import ListenAddress

EXCHANGE_SECONDS: Final = 120.0
"""What may take longer has failed."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK: Final = b"0\r\n\r\n"
_DONE: Final = b"data: [DONE]"
_TAIL_BYTES: Final = 64
_SAID_BYTES: Final = 200


class LeanConnection(asyncio.Protocol):
    """One connection; `exchange` sends a request and waits for the end of its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._head = b""
        self._status = 0
        self._left = -1  # bytes of the body to come; -1: it is chunked
        self._tail = b""
        self._first = 0.0
        self._ended = 0.0

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and self._waiting is None

    def close(self) -> None:
        """Close it, also in the middle of an answer."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        if not self._status:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            length = _LENGTH.search(self._head, 0, end)
            self._status = int(self._head[9:12])
            self._left = int(length[1]) if length else -1
            data, self._head = self._head[end:], self._head[:end]
            if not data:
                if self._left == 0:
                    self._end()
                return
        if not self._first:
            self._first = time.perf_counter()
        self._tail = data[-_SAID_BYTES:] if len(data) >= _TAIL_BYTES else (self._tail + data)[-_TAIL_BYTES:]
        if self._left >= 0:
            self._left -= len(data)
            if self._left <= 0:
                self._end()
        elif self._tail.endswith(_LAST_CHUNK):
            self._end()

    def _end(self) -> None:
        self._ended = time.perf_counter()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def exchange(self, request: bytes, *, streaming: bool) -> Exchange:
        """Send *request*, head and body, and read its answer to the end; failures are in the result."""
        if not self.is_open or self._transport is None:
            now = time.perf_counter()
            return Exchange(now, now, now, error="the connection is closed")
        self._head, self._status, self._tail, self._first = b"", 0, b"", 0.0
        self._waiting = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        try:
            self._transport.write(request)
            async with asyncio.timeout(EXCHANGE_SECONDS):
                await self._waiting
        except (TimeoutError, OSError) as error:
            self.close()
            now = time.perf_counter()
            return Exchange(started, self._first or now, now, error=f"{type(error).__name__}: {error}")
        finally:
            self._waiting = None
        problem = ""
        if self._status != 200:
            problem = f"status {self._status}: {self._tail.decode(errors='replace')}"
        elif streaming and _DONE not in self._tail:
            problem = "the stream ended without [DONE]"
        return Exchange(started, self._first or self._ended, self._ended, error=problem)


class LeanClient:
    """Connections to one address, kept for the next request; an asynchronous context manager.

    Args:
        address: Of the gateway.
    """

    def __init__(self, address: ListenAddress) -> None:
        self._address = address
        self._idle: list[LeanConnection] = []
        self._host = str(address).encode()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def request(self, body: bytes, headers: bytes = b"") -> bytes:
        """Return a chat completion's whole request; *headers* are further lines, each with its line end."""
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n%b"
            b"content-length: %d\r\n\r\n%b" % (self._host, headers, len(body), body)
        )

    async def connect(self) -> LeanConnection:
        """Return an open connection, one that is idle if there is one; give it back with `keep`.

        Raises:
            OSError: Nobody listens.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(LeanConnection, self._address.ip, self._address.port)
        return connection

    def keep(self, connection: LeanConnection) -> None:
        """Take a connection back that is not needed now."""
        if connection.is_open:
            self._idle.append(connection)

    async def chat(self, body: bytes, *, streaming: bool, headers: bytes = b"") -> Exchange:
        """Post one chat completion on any idle connection."""
        try:
            connection = await self.connect()
        except OSError as error:
            now = time.perf_counter()
            return Exchange(now, now, now, error=f"{type(error).__name__}: {error}")
        exchange = await connection.exchange(self.request(body, headers), streaming=streaming)
        self.keep(connection)
        return exchange

    async def chat_briefly(self, body: bytes, *, seconds: float, headers: bytes = b"") -> None:
        """Post one chat completion and leave after *seconds*, answered or not."""
        connection = await self.connect()
        try:
            async with asyncio.timeout(seconds):
                await connection.exchange(self.request(body, headers), streaming=True)
        except TimeoutError:
            pass
        finally:
            connection.close()
