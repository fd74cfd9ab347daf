"""Listens on a socket file and moves bytes between it and connections."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Final, cast

from endpoint_picker.localgrpc.connection import Connection
from endpoint_picker.localgrpc.streams import Open

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.02


class LocalGrpcServer:
    """Serves gRPC methods on a socket file, from `listen` to `stop`; `run` owns what takes time meanwhile.

    Args:
        max_message_bytes: Bound on one message.
    """

    def __init__(self, *, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._services: dict[str, Open] = {}
        self._connections: set[_Transport] = set()
        self._server: asyncio.Server | None = None
        self._group: asyncio.TaskGroup | None = None
        self._early: list[Coroutine[Any, Any, None]] = []

    def add(self, path: str, opens: Open) -> None:
        """Serve the method *path*, ``/service/Method``."""
        self._services[path] = opens

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what needs time beside everything else; what it raises is logged and ends nothing else."""
        if self._group is None:
            self._early.append(coroutine)
        else:
            self._group.create_task(_guarded(coroutine))

    async def run(self) -> None:
        """Own what `spawn` is given, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for coroutine in self._early:
                self.spawn(coroutine)
            self._early.clear()
            await asyncio.Event().wait()

    async def listen(self, path: str) -> None:
        """Take connections at the socket file *path*; OSError when it cannot be made."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Transport(self), path, backlog=1024)

    async def stop(self, grace_seconds: float) -> None:
        """Take no further connections and streams, wait for those under way, then end what is left."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.go_away()
        deadline = asyncio.get_running_loop().time() + grace_seconds
        # streams end in plain calls, and nobody else waits for the last one
        while self.streams and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        for connection in list(self._connections):
            connection.abort()

    @property
    def streams(self) -> int:
        """Streams that are under way."""
        return sum(connection.streams for connection in self._connections)

    # -- for its connections ----------------------------------------------------------------------------------------

    def joined(self, connection: "_Transport") -> Mapping[str, Open]:
        """Note a connection; return the methods it serves."""
        self._connections.add(connection)
        return self._services

    def left(self, connection: "_Transport") -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    @property
    def max_message_bytes(self) -> int:
        """Bound on one message."""
        return self._max_message_bytes


async def _guarded(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        await coroutine
    except Exception:  # one stream is the unit that ends here
        logger.exception("a stream could not be served")


class _Transport(asyncio.Protocol):
    """One connection of the server."""

    def __init__(self, server: LocalGrpcServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None

    @property
    def streams(self) -> int:
        return self._connection.streams if self._connection is not None else 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # what a stream server gives
        self._transport = transport
        self._connection = Connection(
            self._server.joined(self),
            write=transport.write,
            close=transport.close,
            max_message_bytes=self._server.max_message_bytes,
        )

    def data_received(self, data: bytes) -> None:
        if self._connection is None:
            return
        try:
            self._connection.receive(data)
        except Exception:  # one connection is the unit that ends here
            logger.exception("a connection of the data plane could not be served")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self._connection is not None:
            self._connection.lose()
        self._server.left(self)

    def go_away(self) -> None:
        """Take no further streams."""
        if self._connection is not None:
            self._connection.go_away()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()
