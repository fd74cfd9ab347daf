"""The least a picker in Python can cost: it reads Envoy's messages and answers constants.

It writes the same Envoy configuration as the real picker and serves the same two gRPC services with the same messages:
an answer to the headers, an answer to the body that names three endpoints and carries the same metadata, and an access
log whose entries are decoded. But the answers were made beforehand, endpoints take turns, no body is read or changed,
nothing is remembered, scraped, logged or counted.

Run as ``python -m benchmarks.constant_picker``.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from pathlib import Path

import grpc
import uvloop

from endpoint_picker.accesslog.server import SERVICE_NAME as ACCESS_LOG_SERVICE
from endpoint_picker.datalayer.files import LISTENER_NAME, load_manifests, resolve_standalone
from endpoint_picker.extproc import messages
from endpoint_picker.extproc.server import SERVICE_NAME as EXT_PROC_SERVICE
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


async def _serve(manifest: str, folder: Path, port: int) -> None:
    resolution = resolve_standalone(load_manifests([manifest]).resources, port)
    at_headers, decisions = _answers(resolution)
    at_body = cycle(decisions)

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
    _write_files(resolution, folder, port)
    server.add_insecure_port(f"unix:{folder / names.PICKER_SOCKET}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given.manifest, given.folder, given.port))


if __name__ == "__main__":
    main()
