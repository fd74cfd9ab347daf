"""The least a picker in Python can cost: it reads Envoy's messages and answers constants.

It writes the same Envoy configuration as the real picker and serves the same two gRPC services with the same messages:
an answer to the headers, an answer to the body that names three endpoints and carries the same metadata, and an access
log whose entries are decoded. But the answers were made beforehand, endpoints take turns, no body is read or changed,
nothing is remembered, scraped, logged or counted.

It comes in two forms: with the gRPC library for Python, which is what a picker in Python costs at least when it is
built as usual, and with the gateway's own gRPC server, which tells what the gateway's logic adds to its transport.

Run as ``python -m benchmarks.constant_picker``.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import grpc
import uvloop

from endpoint_picker.accesslog.server import METHOD as ACCESS_LOG_METHOD
from endpoint_picker.accesslog.server import SERVICE_NAME as ACCESS_LOG_SERVICE
from endpoint_picker.datalayer.files import LISTENER_NAME, load_manifests, resolve_standalone
from endpoint_picker.extproc import messages
from endpoint_picker.extproc.server import METHOD as EXT_PROC_METHOD
from endpoint_picker.extproc.server import SERVICE_NAME as EXT_PROC_SERVICE
from endpoint_picker.localgrpc.server import LocalGrpcServer
from endpoint_picker.localgrpc.streams import Answers
from endpoint_picker.protos.access_log_service_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from endpoint_picker.requestcontrol.exchange import Forward
from envoy_config import names
from envoy_config.render import render
from envoy_config.settings import EnvoySettings, ListenAddress
from inference_resolution.resolved import Resolution, RouteEntry

_MESSAGE_BYTES = 33 * 1024 * 1024
_ENDPOINTS_TRIED = 3


def _write_files(resolution: Resolution, folder: Path, port: int) -> None:
    settings = EnvoySettings(directory=str(folder), listen={LISTENER_NAME: ListenAddress("127.0.0.1", port)})
    for path, content in render(resolution, settings).items():
        target = folder / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_text(json.dumps(content), encoding="utf-8")


def _answers(resolution: Resolution) -> tuple[bytes, list[bytes]]:
    """Return the constant answer to request headers, and one to a request body per endpoint tried first."""
    entry = next(
        entry
        for listener in resolution.listeners
        for host in listener.virtual_hosts
        for entry in host.entries
        if entry.rule.picked
    )
    pool = resolution.pools[entry.rule.pools[0]]
    addresses = [endpoint.address for endpoint in pool.endpoints]
    model = next(iter(pool.models), "")
    at_body = [
        messages.forward_at_body(
            _forward(entry, pool.key.cluster_name, model, addresses[at:] + addresses[:at]), sized=True
        )
        for at in range(len(addresses))
    ]
    return messages.go_on_request_headers().SerializeToString(), [answer.SerializeToString() for answer in at_body]


def _forward(entry: RouteEntry, cluster: str, model: str, addresses: Sequence[str]) -> Forward:
    """Return what the real picker decides about most requests."""
    return Forward(
        correlation_id="00000000-1",
        request_id="00000000-0000-0000-0000-000000000000",
        route=names.picked_route_name(entry, streaming=True),
        cluster=cluster,
        addresses=tuple(addresses[:_ENDPOINTS_TRIED]),
        metadata=(
            (names.MODEL, model),
            (names.TARGET_MODEL, model),
            (names.POOL, cluster),
            (names.MODEL_RESPONSE_VALUE, model),
        ),
    )


async def _serve(manifest: str, folder: Path, port: int, *, own: bool) -> None:
    resolution = resolve_standalone(load_manifests([manifest]).resources, port)
    at_headers, decisions = _answers(resolution)
    _write_files(resolution, folder, port)
    serve = _serve_own if own else _serve_grpcio
    await serve(str(folder / names.PICKER_SOCKET), at_headers, cycle(decisions))


async def _serve_grpcio(socket: str, at_headers: bytes, at_body: Iterator[bytes]) -> None:
    """Serve with the gRPC library for Python."""

    async def process(
        requests: AsyncIterator[messages.ProcessingRequest], context: "grpc.aio.ServicerContext[object, bytes]"
    ) -> None:
        async for message in requests:
            if message.HasField("request_body"):
                await context.write(next(at_body))
                return
            await context.write(at_headers)

    async def access_log(entries: AsyncIterator[StreamAccessLogsMessage], _context: object) -> StreamAccessLogsResponse:
        async for _ in entries:
            pass
        return StreamAccessLogsResponse()

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MESSAGE_BYTES)])
    extproc: grpc.RpcMethodHandler[messages.ProcessingRequest, bytes] = grpc.stream_stream_rpc_method_handler(
        process, request_deserializer=messages.ProcessingRequest.FromString, response_serializer=None
    )
    accesslog = grpc.stream_unary_rpc_method_handler(
        access_log,
        request_deserializer=StreamAccessLogsMessage.FromString,
        response_serializer=StreamAccessLogsResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(EXT_PROC_SERVICE, {"Process": extproc}),
            grpc.method_handlers_generic_handler(ACCESS_LOG_SERVICE, {"StreamAccessLogs": accesslog}),
        )
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


class _Decider:
    """One stream of external processing on the gateway's own gRPC server."""

    def __init__(self, answers: Answers, at_headers: bytes, at_body: Iterator[bytes]) -> None:
        self._answers = answers
        self._at_headers = at_headers
        self._at_body = at_body

    def message(self, data: bytes) -> None:
        if messages.ProcessingRequest.FromString(data).HasField("request_body"):
            self._answers.send(next(self._at_body))
            self._answers.finish()
        else:
            self._answers.send(self._at_headers)

    def half_closed(self) -> None:
        self._answers.finish()

    def closed(self) -> None:
        pass


class _Log:
    """One stream of the access log on the gateway's own gRPC server."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def message(self, data: bytes) -> None:
        StreamAccessLogsMessage.FromString(data)

    def half_closed(self) -> None:
        self._answers.finish()

    def closed(self) -> None:
        pass


async def _serve_own(socket: str, at_headers: bytes, at_body: Iterator[bytes]) -> None:
    """Serve with the gateway's own gRPC server."""
    server = LocalGrpcServer(max_message_bytes=_MESSAGE_BYTES)
    server.add(EXT_PROC_METHOD, lambda answers, _headers: _Decider(answers, at_headers, at_body))
    server.add(ACCESS_LOG_METHOD, lambda answers, _headers: _Log(answers))
    await server.listen(socket)
    await server.run()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--own-server", action="store_true", help="the gateway's own gRPC server instead of grpcio's")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given.manifest, given.folder, given.port, own=given.own_server))


if __name__ == "__main__":
    main()
