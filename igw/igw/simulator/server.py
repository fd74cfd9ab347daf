"""A simulated model server on a port: started, stopped, killed and revived."""

import asyncio
import hmac
import logging
import socket
import ssl
from collections.abc import Iterable
from contextlib import AsyncExitStack
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from igw.simulator.answers import dump
from igw.simulator.api_bodies import ApiError
from igw.simulator.catalogue import CatalogueHandlers
from igw.simulator.connections import bound_socket, reset
from igw.simulator.faults import Fault, FaultDraw, FaultKind, FaultPlan, parse_plan
from igw.simulator.generation import ConnectionEndedError, GenerationHandlers
from igw.simulator.settings import SimulatorSettings
from igw.simulator.state import ServerState

logger = logging.getLogger(__name__)

_GENERATION_PATHS: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
_FAULTS_PATH: Final = "/simulator/faults"
_MOST_BODY_BYTES: Final = 64 * 1024 * 1024
# What uvicorn under vLLM does; a client that reuses an idle connection just then meets a close.
_KEEP_ALIVE_SECONDS: Final = 5.0


class SimulatedServer:
    """One simulated model server; ``async with`` starts it and stops it, and start and stop work only within.

    A stop without grace is a kill: connections are reset and all state is lost, the port stays reserved, and `start`
    revives the server there. Faults and `requests_served` outlive a stop.

    Attributes:
        settings: What it was told.
        requests_served: Generation requests that were answered completely, whatever the status.
    """

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self.requests_served = 0
        self._faults = FaultDraw(self.settings.faults)
        self._state: ServerState | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._busy: set[asyncio.Transport] = set()
        self._scope = AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._dying: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        if self.settings.tls_certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(self.settings.tls_certificate, self.settings.tls_key)

    @property
    def port(self) -> int:
        """Port it listens on, reserved from the first start to the end; RuntimeError before."""
        if self._reserved is None:
            msg = "the server was never started"
            raise RuntimeError(msg)
        port: int = self._reserved.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """``http://host:port`` without a path."""
        host = self.settings.host
        authority = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{authority}:{self.port}"

    @property
    def state(self) -> ServerState:
        """State of the running server, to be read; RuntimeError while it is stopped."""
        if self._state is None:
            msg = "the server is stopped"
            raise RuntimeError(msg)
        return self._state

    async def __aenter__(self) -> Self:
        self._tasks = await self._scope.enter_async_context(asyncio.TaskGroup())
        try:
            await self.start()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def start(self) -> None:
        """Start listening with an empty cache; harmless while running. OSError where the port is taken."""
        if self._runner is not None:
            return
        if self._tasks is None:
            msg = "a simulated server starts within its async with block"
            raise RuntimeError(msg)
        if self._reserved is None:
            self._reserved = bound_socket(self.settings.host, self.settings.port)
        state = ServerState(self.settings, self._faults)
        state.died = self._stop_later
        runner = web.AppRunner(
            self._application(state),
            handle_signals=False,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
        )
        await runner.setup()
        self._state, self._runner = state, runner
        try:
            await self._listen_or_refuse(keep=None)
        except OSError:
            await self.stop()
            raise

    async def stop(self, *, grace_seconds: float = 0.0) -> None:
        """Stop listening, give requests in flight *grace_seconds* to end, then reset what is left."""
        runner, state = self._runner, self._state
        if runner is None or state is None:
            return
        self._runner = self._state = None
        self._close_listener()
        try:
            async with asyncio.timeout(grace_seconds):
                while grace_seconds and state.statistics.in_flight:  # noqa: ASYNC110 - only while stopping
                    await asyncio.sleep(0.01)
        except TimeoutError:
            logger.info("requests were still in flight at the end of the grace period")
        finally:
            state.engine.stop()
            for connection in runner.server.connections if runner.server else ():
                reset(connection.transport)
            await runner.cleanup()

    async def set_faults(
        self, faults: FaultPlan | Iterable[Fault], *, keep: asyncio.BaseTransport | None = None
    ) -> None:
        """Replace all faults; none clears them.

        Connections that are idle are closed when connections are to be refused, but for *keep*.
        """
        plan = faults if isinstance(faults, FaultPlan) else FaultPlan(tuple(faults))
        self._faults = FaultDraw(plan)
        if self._state is None or self._runner is None:
            return
        self._state.faults = self._faults
        await self._listen_or_refuse(keep=keep)

    async def _leave(self) -> None:
        """End everything that the ``async with`` block owns."""
        await self.stop()
        for task in self._dying:
            task.cancel()
        await self._scope.aclose()
        self._tasks = None
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def _listen_or_refuse(self, *, keep: asyncio.BaseTransport | None) -> None:
        """Listen, or where a fault says so close the listening socket and idle connections."""
        refuse = self._faults.draw(FaultKind.REFUSE)
        if refuse is None:
            await self._listen()
            return
        self._close_listener()
        for connection in self._runner.server.connections if self._runner and self._runner.server else ():
            transport = connection.transport
            if transport is not None and transport is not keep and transport not in self._busy:
                transport.close()
        if refuse.seconds is not None and self._tasks is not None:
            self._reopening = self._tasks.create_task(self._listen_later(refuse.seconds))

    async def _listen(self) -> None:
        """Open the listening socket; harmless while it is open."""
        if self._listener is not None or self._runner is None or self._runner.server is None:
            return
        self._cancel_reopening()
        sock = bound_socket(self.settings.host, self.port)
        try:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(self._runner.server, sock=sock, ssl=self._tls, backlog=1024)
        except BaseException:
            sock.close()
            raise

    async def _listen_later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._reopening = None
        try:
            await self._listen()
        except OSError:
            logger.exception("the port was taken while connections were refused")

    def _stop_later(self, seconds: float) -> None:
        """End this life of the server in some seconds, unless another one has begun by then."""
        state, tasks = self._state, self._tasks

        async def stop() -> None:
            await asyncio.sleep(seconds)
            if self._state is state:
                await self.stop()

        if tasks is not None:
            self._dying.add(task := tasks.create_task(stop()))
            task.add_done_callback(self._dying.discard)

    def _close_listener(self) -> None:
        self._cancel_reopening()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _cancel_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None

    def _application(self, state: ServerState) -> web.Application:
        app = web.Application(middlewares=[self._errors, self._authentication], client_max_size=_MOST_BODY_BYTES)
        generation = GenerationHandlers(state)
        app.add_routes(CatalogueHandlers(state).routes())
        app.add_routes(
            [
                web.post("/v1/chat/completions", generation.chat),
                web.post("/v1/completions", generation.completion),
                web.post("/v1/embeddings", generation.embedding),
                web.get(_FAULTS_PATH, self._show_faults),
                web.post(_FAULTS_PATH, self._set_faults),
                web.delete(_FAULTS_PATH, self._clear_faults),
            ]
        )
        app.on_response_prepare.append(self._sign)
        return app

    async def _sign(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers["x-simulated-server"] = self.settings.name
        response.headers["server"] = "uvicorn"
        if self._listener is None and request.path != _FAULTS_PATH:
            response.force_close()

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn errors into vLLM's bodies and count requests."""
        generates = request.path in _GENERATION_PATHS
        statistics = self.state.statistics
        statistics.in_flight += generates
        transport = request.transport
        if transport is not None:
            self._busy.add(transport)
        try:
            response = await handler(request)
        except ApiError as error:
            response = web.Response(status=error.status, body=dump(error.body()), content_type="application/json")
        except ConnectionEndedError:
            # Nobody is there to receive it.
            return web.Response(status=500)
        except web.HTTPException as error:
            phrase = HTTPStatus(error.status).phrase
            body = dump(ApiError(error.status, phrase, phrase).body())
            response = web.Response(status=error.status, body=body, content_type="application/json")
        finally:
            statistics.in_flight -= generates
            if transport is not None:
                self._busy.discard(transport)
        self.requests_served += generates
        return response

    @web.middleware
    async def _authentication(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Ask for the key on ``/v1/*``, where there is one."""
        key = self.settings.api_key
        if key and request.path.startswith("/v1"):
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, f"Bearer {key}".encode()):
                return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request)

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._faults.describe())

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            plan = parse_plan(await request.read())
        except ValueError as error:
            raise ApiError(400, "Bad Request", str(error)) from error
        await self.set_faults(plan, keep=request.transport)
        return web.json_response(self._faults.describe())

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        await self.set_faults(FaultPlan())
        return web.json_response(self._faults.describe())
