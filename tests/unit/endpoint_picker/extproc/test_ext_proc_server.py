"""Streams over a real socket: none ends before its request was answered, and the ledger always comes to zero."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from ext_proc_messages import (
    header_changes,
    kinds,
    request_body,
    request_headers,
    response_body,
    response_headers,
    streamed,
)

from endpoint_picker.extproc.health import HealthService
from endpoint_picker.extproc.messages import ProcessingRequest, ProcessingResponse
from endpoint_picker.extproc.server import METHOD, SERVICE_NAME, ExternalProcessor
from endpoint_picker.localgrpc.server import LocalGrpcServer
from endpoint_picker.protos import health_pb2
from endpoint_picker.requestcontrol.exchange import Forward, RequestHead
from envoy_config import names
from picker_world import POOL, World, entry_to, model_of, pool_of, resolution_of

BUFFERED, DUPLEX = 2, 4
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
OWN = ((names.PROFILE_METADATA, names.OWN_PROFILE),)


@dataclass
class Served:
    world: World
    processor: ExternalProcessor
    health: HealthService
    channel: grpc.aio.Channel

    def open(self, *, own: bool = True) -> Any:
        call = self.channel.stream_stream(
            f"/{SERVICE_NAME}/Process",
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )
        return call(metadata=OWN if own else ())

    async def settled(self) -> None:
        """Wait until no stream is open."""
        async with asyncio.timeout(5):
            while self.processor.streams:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.001)


Start = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(params=["grpcio", "local"])
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    @asynccontextmanager
    async def served(
        world: World | None = None, *, director: Any = None, reads_answers: bool = False, **limits: int
    ) -> AsyncIterator[Served]:
        world = world or World()
        processor = ExternalProcessor(
            director or world.director,
            clock=lambda: world.now,
            wall_clock=lambda: 1.7e9,
            max_body_bytes=1_000_000,
            reads_answers=reads_answers,
            **limits,
        )
        health = HealthService()
        server: grpc.aio.Server | LocalGrpcServer
        async with asyncio.TaskGroup() as group:
            if request.param == "local":
                server = LocalGrpcServer(max_message_bytes=4_000_000)
                server.add(METHOD, partial(processor.open_local, spawn=server.spawn))
                await server.listen(f"{tmp_path}/p.sock")
                running = group.create_task(server.run())
            else:
                server = grpc.aio.server()
                server.add_generic_rpc_handlers((processor.handler(), health.handler()))
                server.add_insecure_port(f"unix:{tmp_path}/p.sock")
                running = group.create_task(server.start())
                await running
            async with grpc.aio.insecure_channel(f"unix:{tmp_path}/p.sock") as channel:
                yield Served(world, processor, health, channel)
            await server.stop(0)
            running.cancel()

    return served


def matched(world: World, mode: int = BUFFERED, **parts: Any) -> ProcessingRequest:
    """Return request headers as our Envoy sends them, with the route it matched."""
    head = world.head()
    message = request_headers(mode, **{":path": head.path, "content-type": "application/json", **parts})
    attributes = message.attributes["envoy.filters.http.ext_proc"].fields
    attributes["xds.route_name"].string_value = head.route
    attributes["xds.virtual_host_name"].string_value = head.virtual_host
    return message


async def exchange(call: Any, *messages: ProcessingRequest, answers: int) -> list[ProcessingResponse]:
    for message in messages:
        await call.write(message)
    async with asyncio.timeout(5):
        return [await call.read() for _ in range(answers)]


async def test_our_own_streams_end_with_the_answer_and_the_log_settles(start: Start) -> None:
    async with start() as served:
        call = served.open()
        answers = await exchange(call, matched(served.world), request_body(BODY), answers=2)
        assert kinds(answers) == ["request_headers", "request_body"]
        assert await call.read() is grpc.aio.EOF
        await served.settled()
        assert served.world.ledger.totals.requests == 1
        (correlation_id,) = served.world.director.pending
        served.world.director.abandon(correlation_id)
        assert served.world.idle


@pytest.mark.parametrize("own", [True, False])
async def test_only_our_own_data_plane_names_its_streams(start: Start, own: bool) -> None:
    async with start() as served:
        call = served.open(own=own)
        head = matched(served.world, **{names.STREAM_ID_HEADER: "s-1"})
        await exchange(call, head, request_body(BODY), answers=2)
        (pending,) = served.world.director.pending.values()
        assert pending.stream_id == ("s-1" if own else "")


async def test_a_foreign_stream_stays_and_is_the_report(start: Start) -> None:
    async with start() as served:
        call = served.open(own=False)
        answers = await exchange(
            call,
            matched(served.world, DUPLEX),
            request_body(BODY, end=False),
            request_body(),
            response_headers("200", served="10.0.0.2:80"),
            answers=3,
        )
        assert kinds(answers) == ["request_headers", "request_body", "response_headers"]
        assert streamed(answers) == [(BODY, True)]
        assert served.world.ledger.totals.requests == 1
        await call.done_writing()
        await served.settled()
        (completed,) = served.world.observer.finished
        assert (completed.address, completed.status, completed.client_gone) == ("10.0.0.2:80", 200, False)
        assert (completed.pool, completed.model) == (POOL.cluster_name, "m")
        assert served.world.idle


async def test_usage_of_a_foreign_answer_is_read(start: Start) -> None:
    reply = b'{"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
    async with start() as served:
        call = served.open(own=False)
        await exchange(
            call,
            matched(served.world, DUPLEX, response_mode=DUPLEX),
            request_body(BODY),
            response_headers("200"),
            response_body(reply[:10]),
            response_body(reply[10:], end=True),
            answers=5,
        )
        await served.settled()
        (completed,) = served.world.observer.finished
        assert (completed.usage.prompt_tokens, completed.usage.completion_tokens) == (3, 2)
        assert completed.ttft_seconds is not None
        assert served.world.idle


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("messages", [1, 2], ids=["after-headers", "within-the-body"])
async def test_a_client_that_leaves_before_the_decision_leaves_nothing(start: Start, own: bool, messages: int) -> None:
    async with start() as served:
        call = served.open(own=own)
        sent = [matched(served.world, DUPLEX), request_body(b"{", end=False)][:messages]
        await exchange(call, *sent, answers=0)
        await asyncio.sleep(0.01)
        call.cancel()
        await served.settled()
        assert served.world.idle
        assert served.world.observer.finished == []


async def test_a_client_that_leaves_while_the_decision_is_made_leaves_nothing(start: Start) -> None:
    world = World()
    entered = asyncio.Event()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.director, name)

        async def decide(self, head: RequestHead, body: bytes | None) -> Forward:
            entered.set()
            await asyncio.sleep(60)
            raise AssertionError

    async with start(world, director=Slow()) as served:
        call = served.open()
        await exchange(call, matched(world), request_body(BODY), answers=1)
        await entered.wait()
        call.cancel()
        await served.settled()
        assert world.idle


async def test_a_foreign_client_that_leaves_within_the_answer_is_settled(start: Start) -> None:
    async with start() as served:
        call = served.open(own=False)
        await exchange(
            call,
            matched(served.world, DUPLEX, response_mode=DUPLEX),
            request_body(BODY),
            response_headers("200"),
            response_body(b"x"),
            answers=4,
        )
        call.cancel()
        await served.settled()
        (completed,) = served.world.observer.finished
        assert completed.client_gone
        assert served.world.idle


@pytest.mark.parametrize("own", [True, False])
async def test_a_refusal_is_answered_and_joined_to_its_report(start: Start, own: bool) -> None:
    pool = pool_of(models={"a": model_of("a")})
    async with start(World(resolution_of(entry_to(POOL), pools=[pool]))) as served:
        call = served.open(own=own)
        *_, answer = await exchange(call, matched(served.world), request_body(BODY), answers=2)
        reply = answer.immediate_response
        assert (reply.status.code, json.loads(reply.body)["error"]["code"]) == (404, "model_not_found")
        assert await call.read() is grpc.aio.EOF
        await served.settled()
        fields = answer.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value.fields
        correlation_id = fields[names.CORRELATION_ID].string_value
        if own:
            assert list(served.world.director.pending) == [correlation_id]
        else:
            (completed,) = served.world.observer.finished
            assert (completed.status, completed.correlation_id, completed.model) == (404, correlation_id, "m")
            assert served.world.idle


async def test_no_body_is_waited_for_where_our_envoy_found_no_route(start: Start) -> None:
    async with start() as served:
        call = served.open()
        (answer,) = await exchange(call, request_headers(BUFFERED), answers=1)
        assert answer.immediate_response.status.code == 404
        assert await call.read() is grpc.aio.EOF
        foreign = served.open(own=False)  # does not name its routes
        assert kinds(await exchange(foreign, request_headers(BUFFERED), answers=1)) == ["request_headers"]
        foreign.cancel()


async def test_a_defect_of_ours_is_answered(start: Start) -> None:
    world = World()

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.director, name)

        async def decide(self, head: RequestHead, body: bytes | None) -> Forward:
            raise KeyError(body)

    async with start(world, director=Broken()) as served:
        call = served.open()
        *_, answer = await exchange(call, matched(world), request_body(BODY), answers=2)
        assert answer.immediate_response.status.code == 500
        assert b"hi" not in answer.immediate_response.body


async def test_a_decision_that_cannot_be_sent_is_answered_and_settled(start: Start) -> None:
    world = World()

    class Unsendable:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.director, name)

        def decide(self, head: RequestHead, body: bytes | None) -> Forward:
            forward = world.director.decide(head, body)
            assert isinstance(forward, Forward)
            return Forward(forward.correlation_id, forward.request_id, "\ud800", forward.cluster)

    async with start(world, director=Unsendable()) as served:
        call = served.open(own=False)
        *_, answer = await exchange(call, matched(world), request_body(BODY), answers=2)
        assert answer.immediate_response.status.code == 500
        await served.settled()
        assert world.idle


async def test_messages_out_of_order_are_refused(start: Start) -> None:
    async with start() as served:
        call = served.open()
        (answer,) = await exchange(call, request_body(b"x"), answers=1)
        assert answer.immediate_response.status.code == 400
        assert await call.read() is grpc.aio.EOF


async def test_a_message_too_late_for_an_answer_ends_the_stream_with_an_error(start: Start) -> None:
    async with start() as served:
        call = served.open(own=False)
        await exchange(call, matched(served.world), request_body(BODY), answers=2)
        await call.write(matched(served.world))
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        await served.settled()
        assert served.world.idle


async def test_the_list_of_models_needs_no_decision(start: Start) -> None:
    pool = pool_of(models={"a": model_of("a")})
    async with start(World(resolution_of(entry_to(POOL), pools=[pool]))) as served:
        call = served.open()
        message = request_headers(BUFFERED, end=True, **{":method": "GET", ":path": "/v1/models", ":authority": "h"})
        (answer,) = await exchange(call, message, answers=1)
        reply = answer.immediate_response
        assert reply.status.code == 200
        assert [model["id"] for model in json.loads(reply.body)["data"]] == ["a"]


async def test_our_own_stream_stays_where_the_picker_reads_answers(start: Start) -> None:
    async with start(reads_answers=True) as served:
        call = served.open()
        answers = await exchange(
            call,
            matched(served.world, response_mode=1),
            request_body(BODY),
            response_headers("200"),
            response_body(b'{"usage":{"prompt_tokens":3,"completion_tokens":2}}', end=True),
            answers=4,
        )
        assert header_changes(answers[1])[names.CLUSTER_HEADER] == POOL.cluster_name
        await served.settled()
        (pending,) = served.world.director.pending.values()
        assert pending.usage is not None
        assert pending.usage.prompt_tokens == 3


async def test_more_held_bytes_than_allowed_are_refused_until_some_are_let_go(start: Start) -> None:
    async with start(max_held_bytes=len(BODY) + 10) as served:
        first, second = served.open(own=False), served.open(own=False)
        await exchange(first, matched(served.world, DUPLEX), request_body(b"x" * len(BODY), end=False), answers=0)
        await asyncio.sleep(0.02)
        (answer,) = await exchange(second, matched(served.world, DUPLEX), request_body(BODY), answers=1)
        assert answer.immediate_response.status.code == 503
        first.cancel()
        async with asyncio.timeout(5):
            while served.processor.streams:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.001)
        third = served.open(own=False)
        answers = await exchange(third, matched(served.world, DUPLEX), request_body(BODY), answers=2)
        assert kinds(answers) == ["request_headers", "request_body"]


def check(served: Served) -> Callable[[str], Awaitable[int]]:
    call = served.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )

    async def status(name: str) -> int:
        return int((await call(health_pb2.HealthCheckRequest(service=name))).status)

    return status


@pytest.mark.parametrize("start", ["grpcio"], indirect=True)
async def test_health_under_the_names_of_the_field(start: Start) -> None:
    async with start() as served:
        status = check(served)
        ready = ("", "readiness", "inference-extension", SERVICE_NAME)
        assert ([await status(name) for name in ready], await status("liveness")) == ([2] * 4, 1)
        served.health.set_serving(serving=True)
        assert [await status(name) for name in ready] == [1] * 4
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await status("other")
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
