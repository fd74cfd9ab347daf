"""HTTP pages of the picker: /livez, /readyz, /metrics and /debug/state."""

import json
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

logger = logging.getLogger(__name__)


class AdminServer:
    """Serves the pages while its `async with` block runs.

    Args:
        host: Address to bind; loopback unless the operator says otherwise, for the pages ask for no credential.
        port: 0 lets the kernel choose.
        ready: Whether requests can be decided, and if not, why.
        metrics: Renders the metrics page.
        state: Gives the debug state.

    Raises:
        OSError: On entry, when the address is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ready: Callable[[], str],
        metrics: Callable[[], bytes],
        state: Callable[[], Mapping[str, object]],
    ) -> None:
        self._host = host
        self._port = port
        self._ready = ready
        self._metrics = metrics
        self._state = state
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_page),
                web.get("/debug/state", self._debug_state),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._ready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _debug_state(self, _request: web.Request) -> web.Response:
        return web.Response(text=json.dumps(self._state(), indent=1) + "\n", content_type="application/json")
