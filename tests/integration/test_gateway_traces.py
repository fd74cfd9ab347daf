"""Traces end to end: one per request, from its client through the gateway to the model server, and never in its way."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio

from endpoint_picker.domain.trace_context import TraceContext, parse_traceparent
from integration.model_servers import (
    DONE,
    EchoServer,
    HeldServer,
    ScriptedServer,
    chat_event,
    echo_server,
    held_server,
    scripted_server,
    usage_event,
)
from integration.resources import inference_model, pool_with
from integration.standalone import Reply, StandaloneGateway, chat, eventually
from integration.trace_collector import TraceCollector, trace_collector

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

CLIENT = "00f067aa0ba902b7"
STREAM = (chat_event("a"), chat_event("b"), usage_event(prompt=11, completion=2), DONE)


@dataclass
class World:
    gateway: StandaloneGateway
    collector: TraceCollector
    first: EchoServer
    second: EchoServer
    script: ScriptedServer
    held: HeldServer

    async def traced(self, **environment: str) -> None:
        """Go on with a picker in this environment."""
        if self.gateway.environment != environment:
            self.gateway.environment = environment
            await self.gateway.restart_picker()

    @property
    def over_http(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.collector.http_port}",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20token",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_SERVICE_NAME": "edge",
        }

    async def send(self, model: str, headers: Mapping[str, str]) -> Reply:
        return await self.gateway.post("/v1/chat/completions", chat(model, stream=model != "m"), headers=headers)

    def asked(self) -> list[dict[str, str]]:
        """Headers that the echoing model servers read."""
        return [request["headers"] for server in (self.first, self.second) for request in server.requests]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[World]:
    """Model ``m`` on two servers, ``s`` on one that streams, ``h`` on one that does so until it is told to end."""
    async with (
        trace_collector() as collector,
        echo_server() as first,
        echo_server() as second,
        scripted_server() as script,
        held_server() as held,
    ):
        documents = [
            *pool_with("p", [first.port, second.port]),
            *pool_with("q", [script.port]),
            *pool_with("r", [held.port]),
            inference_model("m", pool="p"),
            inference_model("s", pool="q", targetModels=[{"name": "served"}]),
            inference_model("h", pool="r"),
        ]
        script.play(STREAM, content_type="text/event-stream")
        async with StandaloneGateway(documents, "--max-body-bytes", "65536") as gateway:
            yield World(gateway, collector, first, second, script, held)


@pytest_asyncio.fixture(loop_scope="module")
async def world(gateway: World) -> World:
    for server in (gateway.first, gateway.second):
        server.requests.clear()
        server.status = 200
    gateway.script.heads.clear()
    gateway.collector.spans.clear()
    return gateway


@pytest_asyncio.fixture(loop_scope="module")
async def on(world: World) -> World:
    await world.traced(**world.over_http)
    return world


def new_trace() -> str:
    return secrets.token_hex(16)


def context(header: str) -> TraceContext:
    found = parse_traceparent(header)
    assert found is not None, header
    return found


async def test_one_trace_from_the_client_to_the_model_server(on: World) -> None:
    trace = new_trace()
    headers = {"traceparent": f"00-{trace}-{CLIENT}-01", "tracestate": "vendor=1, a@b=2", "baggage": "user=1;p=2"}
    assert (await on.send("s", headers)).status == 200
    spans = await on.collector.trace(trace, 3)
    [request], [schedule], [attempt] = spans["server"], spans["internal"], spans["client"]

    assert (request.parent_id, request.state) == (CLIENT, "vendor=1,a@b=2")
    assert schedule.parent_id == attempt.parent_id == request.span_id
    sent = dict(line.lower().split(": ", 1) for line in on.script.heads[0].splitlines() if ": " in line)
    assert context(sent["traceparent"]) == TraceContext(trace, attempt.span_id, 1)
    assert (sent["tracestate"], sent["baggage"]) == (headers["tracestate"], headers["baggage"])
    assert not [name for name in sent if name.startswith("x-gateway")]

    assert request.started <= schedule.started <= schedule.ended <= attempt.started + 0.001
    assert attempt.started <= attempt.events["first_token"] <= attempt.ended <= request.ended + 0.001
    assert (request.name, schedule.name, attempt.name) == ("POST /v1/chat/completions", "schedule", "chat s")
    assert request.attributes["http.response.status_code"] == 200
    assert attempt.attributes["gen_ai.usage.input_tokens"] == 11
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 2
    assert attempt.attributes["gen_ai.response.model"] == "served"
    assert attempt.attributes["server.port"] == on.script.port
    assert schedule.attributes["inference_gateway.schedule.endpoints"] == [f"127.0.0.1:{on.script.port}"]
    assert not any(span.failed for span in (request, schedule, attempt))
    assert request.resource["service.name"] == "edge"
    assert on.collector.headers["authorization"] == "Bearer token"
    assert "Say something" not in str(spans)


async def test_a_client_without_a_trace_begins_one_and_the_log_names_it(on: World) -> None:
    reply = await on.send("m", {})
    [asked] = on.asked()
    found = context(asked["traceparent"])
    spans = await on.collector.trace(found.trace_id, 3)
    assert (spans["server"][0].parent_id, spans["client"][0].span_id) == ("", found.span_id)
    logged = await on.gateway.completed(reply.headers["x-request-id"])
    assert logged["trace_id"] == found.trace_id


async def test_a_failover_shows_two_attempts_that_the_servers_continue(on: World) -> None:
    on.first.status = 503
    for _ in range(20):  # the order of the list is chance
        trace = new_trace()
        assert (await on.send("m", {"traceparent": f"00-{trace}-{CLIENT}-01"})).status == 200
        if on.first.requests:
            break
    spans = await on.collector.trace(trace, 4)
    failed, answered = spans["client"]
    assert (failed.failed, failed.attributes["error.type"]) == (True, "503")
    assert (answered.failed, answered.attributes["http.request.resend_count"]) == (False, 1)
    ports = [span.attributes["server.port"] for span in (failed, answered)]
    assert ports == [on.first.port, on.second.port]
    read = [context(server.requests[-1]["headers"]["traceparent"]).span_id for server in (on.first, on.second)]
    assert read == [failed.span_id, answered.span_id]
    assert spans["server"][0].attributes["inference_gateway.attempts"] == 2
    assert answered.started >= failed.ended - 0.001


async def test_refusals_of_picker_and_envoy_have_a_span(on: World) -> None:
    expected = {
        new_trace(): ("unknown model", 404, "ModelNotFound"),
        new_trace(): ("no route", 404, "RouteNotFound"),
        new_trace(): ("model list", 200, None),
        new_trace(): ("too large", 413, None),
    }
    for trace, (kind, status, _) in expected.items():
        headers = {"traceparent": f"00-{trace}-{CLIENT}-01"}
        match kind:
            case "unknown model":
                reply = await on.gateway.chat("nobody", headers=headers)
            case "no route":
                reply = await on.gateway.get("/nowhere", headers=headers)
            case "model list":
                reply = await on.gateway.get("/v1/models", headers=headers)
            case _:
                body = b" " * 300_000
                reply = await on.gateway.request("POST", "/v1/chat/completions", data=body, headers=headers)
        assert reply.status == status, kind
    for trace, (kind, status, refusal) in expected.items():
        [span] = (await on.collector.trace(trace, 1))["server"]
        assert (span.parent_id, span.attributes["http.response.status_code"]) == (CLIENT, status), kind
        assert span.attributes.get("inference_gateway.refusal") in {refusal, None}, kind
        assert not span.failed


async def test_what_the_client_does_not_sample_is_passed_on_and_not_recorded(on: World) -> None:
    silent, loud = new_trace(), new_trace()
    for trace, flags in ((silent, "00"), (loud, "01")):
        await on.send("m", {"traceparent": f"00-{trace}-{CLIENT}-{flags}"})
    await on.collector.trace(loud, 3)
    assert {context(a["traceparent"]).trace_id: context(a["traceparent"]).flags for a in on.asked()} == {
        silent: 0,
        loud: 1,
    }
    assert [span for span in on.collector.spans if span.trace_id == silent] == []


@pytest.mark.parametrize(
    ("traceparent", "kept"),
    [
        pytest.param(["garbage"], False, id="garbage"),
        pytest.param([f"00-{'0' * 32}-{CLIENT}-01"], False, id="trace-of-zeros"),
        pytest.param([f"00-{'a' * 32}-{'0' * 16}-01"], False, id="span-of-zeros"),
        pytest.param([f"ff-{'a' * 32}-{CLIENT}-01"], False, id="forbidden-version"),
        pytest.param([f"00-{'a' * 32}-{CLIENT}-01"] * 2, False, id="twice"),
        pytest.param(["x" * 30_000], False, id="long"),
        pytest.param([f"00-{'a' * 32}-{CLIENT}-01"], True, id="valid"),
    ],
)
@pytest.mark.parametrize("state", ["", "vendor=1", "=,=;\u00e4", "k=" + "v" * 20_000], ids=["", "state", "bad", "long"])
async def test_a_hostile_trace_harms_nothing(on: World, traceparent: list[str], kept: bool, state: str) -> None:
    headers = [("traceparent", value) for value in traceparent] + ([("tracestate", state)] if state else [])
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    options = {"data": body, "headers": [("content-type", "application/json"), *headers]}
    assert (await on.gateway.request("POST", "/v1/chat/completions", **options)).status == 200
    [asked] = on.asked()
    found = context(asked["traceparent"])
    assert (found.trace_id == "a" * 32) is kept
    assert asked.get("tracestate", "") == (state if kept and state == "vendor=1" else "")


async def test_a_megabyte_of_state_is_refused_before_anything_reads_it(on: World) -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{CLIENT}-01", "tracestate": "k=" + "v" * 1_000_000}
    assert (await on.send("m", headers)).status == 431
    assert on.asked() == []


async def test_a_picker_that_dies_under_a_stream_loses_no_trace(on: World) -> None:
    trace = new_trace()
    before = on.held.started
    stream = asyncio.ensure_future(on.send("h", {"traceparent": f"00-{trace}-{CLIENT}-01"}))  # noqa: TID251 - a test

    async def begun() -> bool:
        return on.held.started > before

    await eventually(begun, what="the stream did not begin")
    await on.gateway.restart_picker()
    on.held.release.set()
    assert (await stream).status == 200
    spans = await on.collector.trace(trace, 2)
    [request], [attempt] = spans["server"], spans["client"]
    assert (request.parent_id, attempt.parent_id) == (CLIENT, request.span_id)
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 2
    on.held.release.clear()


async def test_spans_can_be_sent_by_grpc_and_sampled_at_no_rate(world: World) -> None:
    await world.traced(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{world.collector.grpc_port}",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
        OTEL_BSP_SCHEDULE_DELAY="20",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0",
    )
    trace = new_trace()
    await world.send("m", {})
    await world.send("m", {"traceparent": f"00-{trace}-{CLIENT}-01"})
    await world.collector.trace(trace, 3)
    assert {span.trace_id for span in world.collector.spans} == {trace}
    assert sorted(context(asked["traceparent"]).flags for asked in world.asked()) == [0, 1]


async def test_a_collector_that_is_silent_harms_no_request(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never answers
        await world.traced(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="1",
            OTEL_BSP_MAX_QUEUE_SIZE="30",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10",
        )
        replies = [await world.send("m", {}) for _ in range(60)]
        assert {reply.status for reply in replies} == {200}

        async def lost() -> bool:
            outcomes = ("failed", "dropped")
            counts = [await world.gateway.metric("inference_gateway_trace_spans_total", outcome=o) for o in outcomes]
            return all(counts)

        await eventually(lost, seconds=30.0, what="no span was counted as lost")
        told = [e for e in world.gateway.log_entries() if e["message"].startswith("traces cannot be exported")]
        assert len(told) == 1
        assert told[0]["reason"]
        assert await world.gateway.end_picker() == 0
    world.gateway.environment = {}
    await world.gateway.start_picker()


async def test_without_tracing_the_clients_headers_pass_as_they_are(world: World) -> None:
    await world.traced()
    trace = new_trace()
    for value in (f"00-{trace}-{CLIENT}-01", "garbage"):
        reply = await world.send("m", {"traceparent": value, "tracestate": "=,=", "baggage": "a=b"})
        logged = await world.gateway.completed(reply.headers["x-request-id"])
        assert logged.get("trace_id", "") == (trace if trace in value else "")
    assert sorted(asked["traceparent"] for asked in world.asked()) == sorted([f"00-{trace}-{CLIENT}-01", "garbage"])
    assert {(asked["tracestate"], asked["baggage"]) for asked in world.asked()} == {("=,=", "a=b")}
    assert not any(span.trace_id == trace for span in world.collector.spans)
