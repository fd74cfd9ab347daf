"""HTTP pages of the picker: /livez, /readyz, /metrics, /metrics/envoy and /debug/state; read only, without a body."""

import json
import logging
from asyncio import BaseProtocol, Protocol, Server, get_running_loop
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from endpoint_picker.admin.access import AdminAccess
from endpoint_picker.telemetry.exposition import TEXT, Page

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS: Final = 128
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _bounded(runner: web.AppRunner) -> Callable[[], BaseProtocol]:
    """Return what makes the protocol of a connection; the oldest make room, so that nobody can keep others out."""

    def connect() -> BaseProtocol:
        server = runner.server
        if server is None:
            return Protocol()
        for handler in server.connections[: 1 - _MOST_CONNECTIONS]:
            handler.force_close()
        return server()

    return connect


class AdminServer:
    """Serves the pages while its `async with` block runs.

    Args:
        host: Address to bind.
        port: 0 lets the kernel choose.
        access: Judges every request.
        ready: Whether requests can be decided, and if not, why.
        metrics: Renders the metrics page in a form that an ``Accept`` header asks for.
        envoy_metrics: Gets Envoy's own metrics page, None when it cannot be had.
        state: Gives the debug state.

    Raises:
        OSError: On entry, when the address is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        access: AdminAccess,
        ready: Callable[[], str],
        metrics: Callable[[str], Page],
        envoy_metrics: Callable[[], Awaitable[bytes | None]],
        state: Callable[[], Mapping[str, object]],
    ) -> None:
        self._host = host
        self._port = port
        self._ready = ready
        self._metrics = metrics
        self._envoy_metrics = envoy_metrics
        self._state = state
        self._access = access
        self._runner: web.AppRunner | None = None
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_page),
                web.get("/metrics/envoy", self._envoy_metrics_page),
                web.get("/debug/state", self._debug_state),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            self._server = await get_running_loop().create_server(_bounded(self._runner), self._host, self._port)
        except OSError:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        refusal = self._access.refusal(request.path, host=request.host, authorization=authorization)
        if refusal is not None:
            asked = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
            return web.Response(text=refusal.reason, status=refusal.status, headers=_HEADERS | asked)
        response = await handler(request)
        response.headers.update(_HEADERS)
        return response

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._ready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        page = self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=page.body, headers={"Content-Type": page.content_type, "Vary": "Accept"})

    async def _envoy_metrics_page(self, _request: web.Request) -> web.Response:
        page = await self._envoy_metrics()
        if page is None:
            return web.Response(text="Envoy does not answer\n", status=503)
        return web.Response(body=page, headers={"Content-Type": TEXT})

    async def _debug_state(self, _request: web.Request) -> web.Response:
        return web.Response(text=json.dumps(self._state(), indent=1) + "\n", content_type="application/json")
