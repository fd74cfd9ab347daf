"""Answers clients in Envoy's place while Envoy is started again, so that they wait for a moment and try once more.

Without it their connections are refused, and the official SDKs then give up after little more than a second. Held until
Envoy is back, or for some seconds, each request is answered with 503 and Retry-After, which they follow.
"""

import asyncio
import contextlib
import json
import socket
from types import TracebackType
from typing import Final, Self

from igw.listen_address import ListenAddress

_HOLD_SECONDS: Final = 5.0
_FIRST_BYTE_SECONDS: Final = 0.5
_LINGER_SECONDS: Final = 2.0
_MOST_CONNECTIONS: Final = 500
_BACKLOG: Final = 1024
_CHUNK_BYTES: Final = 64 * 1024
_BODY: Final = json.dumps(
    {
        "error": {
            "message": "The gateway is being started again; try again.",
            "type": "server_error",
            "param": None,
            "code": "service_unavailable",
        }
    }
).encode()
_ANSWER: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class StandIn:
    """Listens on Envoy's address within its ``async with`` block; leaving it answers whoever still waits.

    It shares the address with an Envoy that is about to listen (SO_REUSEPORT, of the same user). Where it cannot listen
    it does nothing.

    Args:
        address: Where clients connect.
    """

    def __init__(self, address: ListenAddress) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._group = asyncio.TaskGroup()
        self._over = asyncio.Event()
        self._connections = 0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        with contextlib.suppress(OSError):
            self._socket = _bound(self._address)
            self._server = await asyncio.start_server(self._accept, sock=self._socket, backlog=_BACKLOG)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._socket is not None:
            # What the kernel has connected and nobody has taken would be reset by the close.
            with contextlib.suppress(OSError):
                while True:
                    self._group.create_task(self._serve_late(self._socket.accept()[0]))
            self._server.close()
        self._over.set()
        await self._group.__aexit__(None, None, None)

    async def _serve_late(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await self._serve(*await asyncio.open_connection(sock=connection))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over.is_set():
            writer.close()
            return
        self._group.create_task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _MOST_CONNECTIONS:
                await self._hold_and_answer(reader, writer)
        except OSError:
            pass  # the client has gone
        finally:
            self._connections -= 1
            writer.close()

    async def _hold_and_answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = _Received()
        async with asyncio.TaskGroup() as group:
            # Reads all the time: who still sends its body cannot see an answer, and unread bytes would reset it.
            reading = group.create_task(received.drain(reader))
            waiting = group.create_task(self._over.wait())
            await asyncio.wait([reading, waiting], timeout=_HOLD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not received.anything:
                await received.something(_FIRST_BYTE_SECONDS)
            if received.anything and not reading.done():
                writer.write(_ANSWER)
                writer.write_eof()
                await writer.drain()
                await asyncio.wait([reading], timeout=_LINGER_SECONDS)
            reading.cancel()
            waiting.cancel()


class _Received:
    """Whether a client has sent anything; what it sent is thrown away."""

    def __init__(self) -> None:
        self._first = asyncio.Event()

    @property
    def anything(self) -> bool:
        """Whether it has."""
        return self._first.is_set()

    async def something(self, seconds: float) -> None:
        """Wait at most *seconds* for the first bytes of a client that has only just connected."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._first.wait()

    async def drain(self, reader: asyncio.StreamReader) -> None:
        """Read to the end."""
        with contextlib.suppress(OSError):
            while await reader.read(_CHUNK_BYTES):
                self._first.set()


def _bound(address: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address.ip, address.port))
    except BaseException:
        bound.close()
        raise
    return bound
