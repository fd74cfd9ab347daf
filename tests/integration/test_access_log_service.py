"""The access-log service over real gRPC: entries arrive at once, and a cancelled or broken stream harms no other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from endpoint_picker.accesslog.server import METHOD, AccessLogService
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.localgrpc.server import LocalGrpcServer
from endpoint_picker.protos import access_log_service_pb2 as service


class QueueSink:
    def __init__(self) -> None:
        self.completions: asyncio.Queue[CompletedRequest] = asyncio.Queue(maxsize=100)

    def attempt(self, attempt: Attempt) -> None:
        raise NotImplementedError

    def completed(self, completed: CompletedRequest) -> None:
        self.completions.put_nowait(completed)


class Running:
    def __init__(self, channel: grpc.aio.Channel, sink: QueueSink, log: AccessLogService) -> None:
        self.sink = sink
        self.log = log
        self.open = channel.stream_unary(METHOD)

    async def arrived(self) -> str:
        async with asyncio.timeout(10):
            return (await self.sink.completions.get()).request_id


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    sink = QueueSink()
    server = LocalGrpcServer(max_message_bytes=1_000_000)
    log = AccessLogService(sink)
    server.add(METHOD, log.open_local)
    await server.listen(f"{tmp_path}/picker.sock")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/picker.sock") as channel:
        yield Running(channel, sink, log)
    await server.stop(0)


def message(request_id: str) -> bytes:
    made = service.StreamAccessLogsMessage()
    made.identifier.log_name = "inference-gateway.request"
    made.http_logs.log_entry.add().request.request_headers["x-request-id"] = request_id
    return made.SerializeToString()


async def test_entries_arrive_at_once_and_a_half_close_is_answered(running: Running) -> None:
    call = running.open()
    await call.write(message("a"))
    assert await running.arrived() == "a"
    await call.write(b"\xff\xff")
    await call.write(message("b"))
    assert await running.arrived() == "b"
    await call.done_writing()
    async with asyncio.timeout(10):
        assert service.StreamAccessLogsResponse.FromString(await call) == service.StreamAccessLogsResponse()
    assert running.log.malformed == 1


async def test_a_cancelled_stream_leaves_the_others_alone(running: Running) -> None:
    first, second = running.open(), running.open()
    await first.write(message("a"))
    assert await running.arrived() == "a"
    first.cancel()
    await second.write(message("b"))
    assert await running.arrived() == "b"
    second.cancel()
