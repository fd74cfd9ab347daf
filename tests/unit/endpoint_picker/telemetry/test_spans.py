"""The spans of one request: who is whose parent, when each began and ended, what they say by the conventions."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.request import SchedulingDecision
from endpoint_picker.domain.trace_context import TraceContext
from endpoint_picker.domain.usage import Usage
from endpoint_picker.telemetry.spans import SpanFactory, resource_of, sample_by
from endpoint_picker.telemetry.tracing import Scheduled, TracedRequest

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FIRST, SECOND = "10.0.0.1:8000", "10.0.0.2:8000"
ROOT = 0xABCDEF0123456780
FACTORY = SpanFactory(Resource({"service.name": "s"}))


def at(attempt: int) -> TraceContext:
    return TraceContext(TRACE, f"{ROOT | attempt:016x}", 1)


COMPLETED = CompletedRequest(
    correlation_id="c",
    request_id="r",
    method="POST",
    path="/v1/chat/completions",
    cluster="default/p:v1",
    address=FIRST,
    attempts=1,
    status=200,
    details="via_upstream",
    model="m",
    target_model="t",
    pool="default/p:v1",
    priority=2,
    streaming=True,
    usage=Usage(100, 20, 120, 64, 5),
    ttft_seconds=0.5,
    attempt_first_byte_seconds=0.25,
    duration_seconds=2.0,
    body_seconds=1.5,
    request_bytes=10,
    response_bytes=20,
    started_at=1000.0,
    trace=at(1),
)
DECISION = SchedulingDecision((FIRST, SECOND), "default", (SECOND, FIRST), (0.5, 2.5), prefix_hit_ratio=0.75)
TRACED = TracedRequest(
    TRACE,
    ROOT,
    parent=CLIENT,
    state="vendor=1",
    begun_at=1000.1,
    authority="gw:8080",
    user_agent="sdk/1",
    method="POST",
    path="/v1/chat/completions",
    scheduled=Scheduled("m", "vllm", 90, DECISION, ended_at=1000.2, seconds=0.125),
    completed=COMPLETED,
)
FAILED = Attempt("r", SECOND, 503, flags="", started=False, duration_seconds=0.125, trace=at(1), started_at=1000.25)


def spans_of(traced: TracedRequest) -> list[ReadableSpan]:
    return FACTORY.spans(traced)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ended(**parts: Any) -> TracedRequest:
    return replace(TRACED, completed=replace(COMPLETED, **parts))


def test_one_request_has_three_spans_in_one_trace() -> None:
    request, schedule, attempt = spans_of(TRACED)
    assert [(s.name, s.kind) for s in (request, schedule, attempt)] == [
        ("POST /v1/chat/completions", SpanKind.SERVER),
        ("schedule", SpanKind.INTERNAL),
        ("chat m", SpanKind.CLIENT),
    ]
    assert {s.context.trace_id for s in (request, schedule, attempt) if s.context} == {int(TRACE, 16)}
    assert request.parent is not None
    assert (request.parent.span_id, request.parent.is_remote) == (int(CLIENT, 16), True)
    assert [s.parent and s.parent.span_id for s in (schedule, attempt)] == [ROOT, ROOT]
    assert [s.context and s.context.span_id for s in (request, schedule, attempt)] == [ROOT, ROOT | 0xF, ROOT | 1]
    assert request.context is not None
    assert request.context.trace_state.to_header() == "vendor=1"


def test_times_are_those_of_the_data_plane() -> None:
    spans = spans_of(TRACED)
    second = 1_000_000_000
    assert [(s.start_time, s.end_time) for s in spans] == [
        (1000 * second, 1002 * second),
        (int(1000.075 * second), int(1000.2 * second)),
        (int(1000.25 * second), 1002 * second),
    ]
    assert [(e.name, e.timestamp) for s in spans for e in s.events] == 2 * [("first_token", int(1000.5 * second))]


def test_the_request_says_what_http_and_the_gateway_know() -> None:
    assert attributes(spans_of(TRACED)[0]) == {
        "url.scheme": "http",
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.route": "/v1/chat/completions",
        "server.address": "gw",
        "server.port": 8080,
        "user_agent.original": "sdk/1",
        "gen_ai.request.model": "m",
        "http.request.body.size": 10,
        "http.response.body.size": 20,
        "http.response.status_code": 200,
        "inference_gateway.pool": "default/p:v1",
        "inference_gateway.attempts": 1,
        "inference_gateway.priority": 2,
        "inference_gateway.time_to_first_token": 0.5,
        "inference_gateway.request_id": "r",
        "inference_gateway.response_details": "via_upstream",
    }


def test_the_schedule_says_what_was_chosen_and_why() -> None:
    assert attributes(spans_of(TRACED)[1]) == {
        "inference_gateway.pool": "default/p:v1",
        "inference_gateway.prompt_tokens_estimate": 90,
        "inference_gateway.schedule.profile": "default",
        "inference_gateway.schedule.candidates": 2,
        "inference_gateway.schedule.endpoints": (FIRST, SECOND),
        "inference_gateway.schedule.score": 2.5,
        "inference_gateway.schedule.prefix_hit_ratio": 0.75,
    }


def test_the_attempt_says_what_generative_ai_is_to_say() -> None:
    assert attributes(spans_of(TRACED)[2]) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "t",
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "10.0.0.1",
        "server.port": 8000,
        "inference_gateway.attempt": 1,
    }


def test_a_failover_shows_both_attempts_and_counts_tokens_once() -> None:
    traced = replace(TRACED, attempts=(FAILED,), completed=replace(COMPLETED, attempts=2, trace=at(2)))
    _, _, first, second = spans_of(traced)
    assert [s.context and s.context.span_id for s in (first, second)] == [ROOT | 1, ROOT | 2]
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert (attributes(first)["error.type"], attributes(first)["server.address"]) == ("503", "10.0.0.2")
    assert "http.request.resend_count" not in attributes(first)
    assert attributes(second)["http.request.resend_count"] == 1
    tokens = [attributes(s).get("gen_ai.usage.input_tokens") for s in spans_of(traced)]
    assert tokens == [None, None, None, 100]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        pytest.param({"status": 200}, None, id="answered"),
        pytest.param({"status": 404}, None, id="the-client's-mistake"),
        pytest.param({"status": 503}, "503", id="server-error"),
        pytest.param({"status": 200, "flags": "UPE"}, "UPE", id="broken-answer"),
        pytest.param({"status": 0, "attempts": 0, "address": ""}, "no_response", id="no-answer"),
        pytest.param({"status": 200, "flags": "DC", "client_gone": True}, None, id="client-gone"),
    ],
)
def test_errors_of_a_request(parts: dict[str, Any], error: str | None) -> None:
    request = spans_of(ended(**parts))[0]
    assert attributes(request).get("error.type") == error
    assert request.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        pytest.param({"status": 503}, "503", id="server-error"),
        pytest.param({"status": 429}, "429", id="overloaded"),
        pytest.param({"status": None, "flags": "UF"}, "unreachable", id="refused"),
        pytest.param({"status": None, "flags": "UT"}, "timeout", id="silent"),
        pytest.param({"status": 200, "flags": "UC"}, "broken", id="cut"),
        pytest.param({"status": None, "flags": ""}, "abandoned", id="client-left"),
    ],
)
def test_errors_of_an_attempt(attempt: dict[str, Any], error: str) -> None:
    traced = replace(TRACED, attempts=(replace(FAILED, **attempt),), completed=replace(COMPLETED, attempts=1))
    [_, _, span] = spans_of(traced)
    assert attributes(span)["error.type"] == error
    assert span.status.status_code is StatusCode.ERROR


def test_a_refusal_by_the_picker_has_no_attempt() -> None:
    completed = CompletedRequest("c", "r", "POST", "/v1/chat/completions", status=503, started_at=1000.0)
    traced = replace(TRACED, refusal="NoReadyEndpoints", completed=completed)
    traced = replace(traced, scheduled=Scheduled("m", "", 90, None, ended_at=1000.2, seconds=0.1))
    request, schedule = spans_of(traced)
    assert attributes(request)["error.type"] == attributes(schedule)["error.type"] == "NoReadyEndpoints"
    assert attributes(request)["inference_gateway.refusal"] == "NoReadyEndpoints"
    assert request.status.status_code is schedule.status.status_code is StatusCode.ERROR


def test_an_end_that_was_never_reported_is_an_error() -> None:
    request, schedule = spans_of(replace(TRACED, completed=None, ended_at=1060.0))
    assert (request.name, attributes(request)["error.type"]) == ("POST /v1/chat/completions", "end_not_reported")
    assert (request.start_time, request.end_time) == (int(1000.1 * 1e9), 1060 * 1_000_000_000)
    assert schedule.name == "schedule"


def test_an_unknown_path_is_in_no_name_and_no_operation() -> None:
    request, _, attempt = spans_of(ended(path="/users/42/thing"))
    assert (request.name, attempt.name) == ("POST", "POST")
    assert "http.route" not in attributes(request)
    assert not any(key.startswith("gen_ai.usage") for key in attributes(attempt))


def test_what_a_client_sends_is_cut() -> None:
    long = "x" * 1_000_000
    traced = replace(ended(model=long, request_id=long, path="/" + long), user_agent=long, authority=long)
    for span in spans_of(traced):
        assert len(span.name) < 300
        assert all(len(value) <= 256 for value in attributes(span).values() if isinstance(value, str))


def test_more_attempts_than_digits_are_left_out() -> None:
    attempts = tuple(replace(FAILED, trace=at(1)) for _ in range(40))
    spans = spans_of(replace(TRACED, attempts=attempts))
    ids = [s.context.span_id for s in spans if s.context]
    assert len(ids) == len(set(ids)) == 16


@given(st.integers(0, 5), st.integers(0, 8), st.booleans(), st.booleans())
def test_spans_are_counted_before_they_are_made(reported: int, attempts: int, scheduled: bool, over: bool) -> None:
    traced = replace(
        TRACED,
        attempts=(FAILED,) * reported,
        scheduled=TRACED.scheduled if scheduled else None,
        completed=replace(COMPLETED, attempts=attempts) if over else None,
    )
    assert traced.span_count == len(spans_of(traced))


@pytest.mark.parametrize(
    ("sampler", "parent", "sampled"),
    [
        (ALWAYS_ON, None, True),
        (ALWAYS_OFF, TraceContext(TRACE, CLIENT, 1), False),
        (ParentBased(ALWAYS_OFF), None, False),
        (ParentBased(ALWAYS_OFF), TraceContext(TRACE, CLIENT, 1), True),
        (ParentBased(ALWAYS_ON), TraceContext(TRACE, CLIENT, 0), False),
        (TraceIdRatioBased(0.5), TraceContext("0" * 16 + "7" + "0" * 15, CLIENT, 0), True),
        (TraceIdRatioBased(0.5), TraceContext("0" * 16 + "9" + "0" * 15, CLIENT, 1), False),
    ],
)
def test_the_sampler_of_the_library_decides(sampler: Any, parent: TraceContext | None, sampled: bool) -> None:
    assert sample_by(sampler)(parent, parent.trace_id if parent else TRACE) is sampled


def test_the_resource_is_ours_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = resource_of("boot").attributes
    assert ours["service.name"] == "inference-gateway"
    assert ours["service.instance.id"]
    assert ours["service.version"]
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.instance.id=pod-1")
    theirs = resource_of("boot").attributes
    assert (theirs["service.name"], theirs["service.instance.id"]) == ("edge", "pod-1")
    assert theirs["deployment.environment.name"] == "prod"
