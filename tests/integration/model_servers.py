"""Model servers for what the simulator does not show: what reached it, exact bytes, and HTTP/2."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from envoy_config.fields import extension, socket_address


@dataclass(slots=True)
class EchoServer:
    """Answers with what it was sent, headers and a digest of the body; WebSockets get their messages back.

    Attributes:
        port: Where it listens.
        requests: Every request of a client, oldest first.
        delay_seconds: Before each answer.
        status: Of each answer.
        headers: Further ones of each answer.
    """

    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    delay_seconds: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

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
        return web.json_response(facts, status=self.status, headers={"x-echo": "1", **self.headers})

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
    """Answers every POST with bytes it was given, each piece in a packet and a chunk of its own; others get 404.

    Attributes:
        port: Where it listens.
        status: Code and phrase.
        content_type: Of the answer.
        pieces: The body.
        end_seconds: How long after the last piece the end of the body comes.
        heads: Heads of the requests, oldest first.
        bodies: Their bodies.
    """

    port: int = 0
    status: str = "200 OK"
    content_type: str = "application/json"
    pieces: Sequence[bytes] = ()
    end_seconds: float = 0.0
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def play(self, pieces: Sequence[bytes], *, content_type: str, status: str = "200 OK", end: float = 0.0) -> None:
        """Give *pieces* as the answer to what comes next, and forget earlier requests."""
        self.pieces, self.content_type, self.status, self.end_seconds = pieces, content_type, status, end
        self.heads.clear()
        self.bodies.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            if not head.startswith("POST"):
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await writer.drain()
                return
            fields = dict(line.lower().split(": ", 1) for line in head.splitlines() if ": " in line)
            body = await reader.readexactly(int(fields["content-length"]))
            self.heads.append(head)
            self.bodies.append(body)
            await self._answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        fields = f"server: uvicorn\r\ncontent-type: {self.content_type}\r\nconnection: close"
        writer.write(f"HTTP/1.1 {self.status}\r\n{fields}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        for piece in self.pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.sleep(self.end_seconds)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer()
    server = await asyncio.start_server(script._serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()


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
    cluster = {
        "name": "up",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"address": socket_address("127.0.0.1", port), "filter_chains": [{"filters": [manager]}]}
    (folder / "front.json").write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
    process = await asyncio.create_subprocess_exec(
        *(str(envoy), "-c", str(folder / "front.json"), "--disable-hot-restart", "--concurrency", "1"),
        *("--log-level", "error", "--log-path", str(folder / "front.log")),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while not await _listens(port):
                assert process.returncode is None, (folder / "front.log").read_text()
        yield
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.02)
        return False
    writer.close()
    await writer.wait_closed()
    return True


@dataclass(slots=True)
class HeldServer:
    """Streams chats that do not end before they are told to.

    Attributes:
        port: Where it listens.
        started: Streams begun since the start.
        open: Streams under way now.
        release: Set it to let every stream go on to its end.
        hold_headers: Hold the whole answer instead of what follows the first event.
    """

    port: int = 0
    started: int = 0
    open: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    hold_headers: bool = False

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.started += 1
        self.open += 1
        try:
            return await self._stream(request)
        finally:
            self.open -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
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
