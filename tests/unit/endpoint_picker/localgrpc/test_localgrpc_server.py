"""A real gRPC client on a real socket file is served like by any gRPC server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import grpc
import pytest

from endpoint_picker.localgrpc.server import LocalGrpcServer
from endpoint_picker.localgrpc.streams import Answers

METHOD = "/s/Echo"


class Echo:
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def message(self, data: bytes) -> None:
        if data == b"fail":
            raise ValueError(data)
        self._answers.send(data)

    def half_closed(self) -> None:
        self._answers.finish()

    def closed(self) -> None:
        pass


def opens(answers: Answers, _headers: Mapping[str, str]) -> Echo:
    return Echo(answers)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalGrpcServer]:
    made = LocalGrpcServer(max_message_bytes=8_000_000)
    made.add(METHOD, opens)
    await made.listen(f"{tmp_path}/s.sock")
    yield made
    await made.stop(0)


@pytest.fixture
async def channel(server: LocalGrpcServer, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_receive_message_length", 8_000_000), ("grpc.max_send_message_length", 8_000_000)]
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s.sock", options=options) as made:
        yield made


@pytest.mark.parametrize("size", [0, 1, 20_000, 3_000_000])
async def test_messages_of_any_size_come_back_whole(channel: grpc.aio.Channel, size: int) -> None:
    call = channel.stream_stream(METHOD)()
    message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with asyncio.timeout(20):
        for _ in range(3):
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_many_streams_at_once(channel: grpc.aio.Channel, server: LocalGrpcServer) -> None:
    async def one(number: int) -> None:
        call = channel.stream_stream(METHOD)()
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(one(number))
    assert server.streams == 0


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary("/s/Other")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_service_that_raises_costs_its_connection_only(
    channel: grpc.aio.Channel, server: LocalGrpcServer
) -> None:
    call = channel.stream_stream(METHOD)()
    await call.write(b"fail")
    async with asyncio.timeout(20):
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        again = channel.stream_stream(METHOD)(wait_for_ready=True)
        await again.write(b"x")
        assert await again.read() == b"x"


async def test_stopping_waits_for_what_is_under_way(channel: grpc.aio.Channel, server: LocalGrpcServer) -> None:
    call = channel.stream_stream(METHOD)()
    await call.write(b"x")
    assert await call.read() == b"x"
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        stopping = group.create_task(server.stop(10))
        await call.write(b"y")
        assert await call.read() == b"y"
        assert not stopping.done()
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


async def test_what_outlasts_the_grace_is_cut(channel: grpc.aio.Channel, server: LocalGrpcServer) -> None:
    call = channel.stream_stream(METHOD)()
    await call.write(b"x")
    assert await call.read() == b"x"
    async with asyncio.timeout(20):
        await server.stop(0.05)
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
