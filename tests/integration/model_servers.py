"""Model servers for what the simulator does not show: what reached it, exact bytes, and HTTP/2."""

import asyncio
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from envoy_config.fields import extension, socket_address, typed


@dataclass(slots=True)
class EchoServer:
    """Answers with what it was sent, headers and a digest of the body; WebSockets get their messages back.

    Attributes:
        port: Where it listens.
        requests: Every request of a client, oldest first.
        delay_seconds: Before each answer.
        status: Of each answer.
    """

    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    delay_seconds: float = 0.0
    status: int = 200

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        body = await request.read()
        facts = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): ",".join(request.headers.getall(name)) for name in request.headers},
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "body": body[:4096].decode("latin-1"),
        }
        if request.headers.get("User-Agent") == "inference-gateway":
            return web.Response(status=404)  # the picker looks for a metrics page
        self.requests.append(facts)
        await asyncio.sleep(self.delay_seconds)
        return web.json_response(facts, status=self.status, headers={"x-echo": "1"})

    @staticmethod
    async def _websocket(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket


@asynccontextmanager
async def echo_server(port: int = 0) -> AsyncIterator[EchoServer]:
    server = EchoServer()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", server._handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class ScriptedServer:
    """Plays a raw answer, piece by piece, to every POST; other requests get 404.

    Attributes:
        port: Where it listens.
        pieces: What is written; each piece leaves in a packet of its own.
        pause_seconds: Between two pieces.
        end_seconds: Between the last piece and the end of the connection.
        bodies: What was posted, oldest first.
        reset_after: Cut the connection after so many pieces; None: never.
    """

    port: int = 0
    pieces: Sequence[bytes] = ()
    pause_seconds: float = 0.0
    end_seconds: float = 0.0
    bodies: list[bytes] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"POST"):
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await writer.drain()
                return
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            self.bodies.append(await reader.readexactly(int(fields.get(b"content-length", b"0"))))
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.pause_seconds)
            await asyncio.sleep(self.end_seconds)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer()
    server = await asyncio.start_server(script._serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()


def http_answer(body: bytes, *, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    """A whole answer that ends with the connection."""
    return (
        f"HTTP/1.1 {status}\r\nserver: uvicorn\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n"
    ).encode() + body


@asynccontextmanager
async def http2_front(folder: Path, port: int, upstream_port: int, envoy: Path) -> AsyncIterator[None]:
    """An Envoy that accepts nothing but cleartext HTTP/2 on *port* and passes it on to *upstream_port*."""
    endpoint = {"endpoint": {"address": socket_address("127.0.0.1", upstream_port)}}
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="front",
        codec_type="HTTP2",
        http_filters=[
            extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
        ],
        route_config={
            "response_headers_to_add": [{"header": {"key": "x-upstream-protocol", "value": "%PROTOCOL%"}}],
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}
            ],
        },
    )
    document: Mapping[str, Any] = {
        "static_resources": {
            "listeners": [{"address": socket_address("127.0.0.1", port), "filter_chains": [{"filters": [manager]}]}],
            "clusters": [
                {
                    "name": "up",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        },
        "overload_manager": typed("envoy.config.overload.v3.OverloadManager"),
    }
    path = folder / "front.json"
    path.write_text(json.dumps({"static_resources": document["static_resources"]}))
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen(
            [envoy, "-c", path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert process.poll() is None, (folder / "front.log").read_text()
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield
    finally:
        process.kill()
        process.wait()


@dataclass(slots=True)
class HeldServer:
    """Streams chats that do not end before they are told to.

    Attributes:
        port: Where it listens.
        started: Streams begun since the start.
        release: Set it to let every stream go on to its end.
        hold_headers: Hold the whole answer instead of what follows the first event.
    """

    port: int = 0
    started: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    hold_headers: bool = False

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.started += 1
        if self.hold_headers:
            await self.release.wait()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await response.write(chat_event("first"))
        await self.release.wait()
        await response.write(chat_event("last") + usage_event(prompt=11, completion=2) + DONE)
        return response


@asynccontextmanager
async def held_server() -> AsyncIterator[HeldServer]:
    server = HeldServer()
    app = web.Application()
    app.router.add_post("/{path:.*}", server._handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        server.release.set()
        await runner.cleanup()


DONE = b"data: [DONE]\n\n"


def chat_event(content: str, **fields: Any) -> bytes:
    """One event of a streamed chat."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": None}
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [choice],
        **fields,
    }
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def usage_event(*, prompt: int, completion: int) -> bytes:
    """The event of a streamed chat that holds nothing but usage."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chat_event("", choices=[], usage=usage)
