"""Each sampled request is emitted once, with what was learned of it; each continues the trace it came with."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.domain.trace_context import TraceContext, parse_traceparent
from endpoint_picker.requestcontrol.exchange import Forward, RequestHead, SpanHeaders
from endpoint_picker.telemetry.tracing import RequestTracer, TracedRequest

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
FIRST, SECOND = "10.0.0.1:80", "10.0.0.2:80"
FORWARD = Forward("c", "r", "route", "default/p:v1", (FIRST, SECOND))
DECISION = SchedulingDecision((FIRST, SECOND))
ENDPOINT = Endpoint(FIRST, metrics=EndpointMetrics(engine="vllm"))
LIMIT = 60.0


def parent_based(parent: TraceContext | None, trace_id: str) -> bool:
    del trace_id
    return parent is None or parent.sampled


def never(parent: TraceContext | None, trace_id: str) -> bool:
    del parent, trace_id
    return False


class World:
    def __init__(self, sample: Callable[[TraceContext | None, str], bool] = parent_based, *, seed: int = 1) -> None:
        self.now = 100.0
        self.emitted: list[TracedRequest] = []
        self.tracer = RequestTracer(
            sample,
            self.emitted.append,
            rng=random.Random(seed),
            clock=lambda: self.now,
            wall_clock=lambda: 1_700_000_000.0 + self.now,
            limit_seconds=LIMIT,
        )

    def forward(self, forward: Forward = FORWARD, **headers: str) -> SpanHeaders:
        """Decide a request with these headers and send it on."""
        head = RequestHead("POST", "/v1/chat/completions?key=secret", "gw:8080", headers)
        trace = self.tracer.begin(head)
        with trace:
            self.tracer.scheduled(InferenceRequest("r", "m", "t", prompt_tokens=7), ENDPOINT, DECISION, 0.001)
        return trace.forwarded(forward)

    @property
    def one(self) -> TracedRequest:
        [traced] = self.emitted
        return traced


@pytest.fixture
def world() -> World:
    return World()


def header_of(span: SpanHeaders, attempt: int = 1) -> TraceContext:
    """What the model server reads in an attempt."""
    found = parse_traceparent(f"{span.parent}{attempt}{span.flags}")
    assert found is not None
    return found


def ended(span: SpanHeaders, *, attempts: int = 1, **parts: object) -> CompletedRequest:
    completed = CompletedRequest(
        "c",
        "r",
        status=200,
        address=FIRST,
        attempts=attempts,
        trace=header_of(span, attempts),
        trace_origin=span.origin,
    )
    return replace(completed, **parts)  # type: ignore[arg-type]


def failed(span: SpanHeaders, attempt: int = 1, address: str = FIRST) -> Attempt:
    return Attempt("r", address, 503, trace=header_of(span, attempt), started_at=1.0, duration_seconds=0.1)


# -- context ----------------------------------------------------------------------------------------------------------


def test_a_trace_is_continued(world: World) -> None:
    span = world.forward(traceparent=SAMPLED, tracestate="vendor=1")
    assert header_of(span).trace_id == TRACE
    assert header_of(span).sampled
    assert header_of(span).span_id not in {SPAN, "0" * 16}
    assert (span.origin, span.drops_state) == (SPAN, False)
    world.tracer.completed(ended(span))
    assert (world.one.trace_id, world.one.parent, world.one.state) == (TRACE, SPAN, "vendor=1")


def test_attempts_and_request_have_span_ids_of_their_own(world: World) -> None:
    span = world.forward(traceparent=SAMPLED)
    world.tracer.completed(ended(span))
    ids = {int(header_of(span, attempt).span_id, 16) for attempt in range(1, 4)} | {world.one.span}
    assert len(ids) == 4
    assert {number & ~0xF for number in ids} == {world.one.span}


def test_without_a_trace_one_begins(world: World) -> None:
    first, second = world.forward(), World(seed=2).forward()
    assert header_of(first).sampled
    assert header_of(first).trace_id != header_of(second).trace_id
    assert (first.origin, first.drops_state) == ("0" * 16, False)


@pytest.mark.parametrize(
    "traceparent",
    ["garbage", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"{SAMPLED},{SAMPLED}", "x" * 50_000],
)
def test_an_invalid_parent_begins_a_new_trace_without_its_state(world: World, traceparent: str) -> None:
    span = world.forward(traceparent=traceparent, tracestate="vendor=1")
    assert header_of(span).trace_id != TRACE
    assert span.drops_state


@pytest.mark.parametrize(
    ("state", "dropped"),
    [
        ("vendor=1", False),
        ("a=1, t@v=2 ,,b=~x", False),
        (",".join(f"k{n}=v" for n in range(32)), False),
        (",".join(f"k{n}=v" for n in range(33)), True),
        ("a=1,a=2", True),
        ("no-value", True),
        ("Upper=1", True),
        ("a=" + "x" * 257, True),
        ("a=b=c", True),
        (",".join(f"k{n}={'v' * 256}" for n in range(31)), False),
        (",".join(f"k{n}={'v' * 256}" for n in range(32)), True),
        ("x" * 1_000_000, True),
        ("a=\x01", True),
    ],
)
def test_a_state_that_is_not_valid_is_dropped_and_the_trace_goes_on(world: World, state: str, dropped: bool) -> None:
    span = world.forward(traceparent=SAMPLED, tracestate=state)
    assert span.drops_state is dropped
    assert header_of(span).trace_id == TRACE


@pytest.mark.parametrize(("flags", "kept"), [("00", 0), ("01", 1), ("03", 3), ("ff", 3), ("02", 2)])
def test_of_the_flags_those_are_kept_that_are_defined(world: World, flags: str, kept: int) -> None:
    span = world.forward(traceparent=f"00-{TRACE}-{SPAN}-{flags}")
    assert header_of(span).flags == kept


def test_what_is_not_sampled_leaves_no_span_and_passes_the_trace_on(world: World) -> None:
    span = world.forward(traceparent=NOT_SAMPLED)
    assert (header_of(span).trace_id, header_of(span).sampled, span.origin) == (TRACE, False, "")
    world.tracer.completed(ended(span))
    world.now += 2 * LIMIT
    world.tracer.sweep()
    assert world.emitted == []


def test_a_sampler_that_says_no_is_told_to_the_model_server() -> None:
    assert header_of(World(never).forward(traceparent=SAMPLED)).sampled is False


# -- what is learned --------------------------------------------------------------------------------------------------


def test_a_request_is_emitted_with_what_was_decided(world: World) -> None:
    span = world.forward(**{"user-agent": "sdk/1"})
    world.tracer.completed(ended(span))
    traced = world.one
    assert (traced.method, traced.path, traced.authority) == ("POST", "/v1/chat/completions", "gw:8080")
    assert (traced.user_agent, traced.pool) == ("sdk/1", "default/p:v1")
    assert traced.scheduled is not None
    assert (traced.scheduled.model, traced.scheduled.engine, traced.scheduled.decision) == ("m", "vllm", DECISION)
    assert traced.completed is not None
    assert traced.completed.status == 200


def test_an_end_is_emitted_once(world: World) -> None:
    span = world.forward()
    world.tracer.completed(ended(span))
    world.tracer.completed(ended(span, trace_origin=""))
    assert len(world.emitted) == 1


def test_a_refused_request_says_why(world: World) -> None:
    world.tracer.begin(RequestHead("POST", "/v1/chat/completions")).refused("c", "ModelNotFound")
    known = CompletedRequest("c", "r", status=404)
    world.tracer.completed(known)
    assert known.trace == TraceContext(world.one.trace_id, f"{world.one.span:016x}", 1)
    assert (world.one.refusal, world.one.scheduled) == ("ModelNotFound", None)


def test_what_the_picker_answers_itself_is_a_request_too(world: World) -> None:
    world.tracer.begin(RequestHead("GET", "/v1/models")).answered("c")
    world.tracer.completed(CompletedRequest("c", "r", status=200))
    assert world.one.path == "/v1/models"


def test_what_no_picker_decided_is_emitted_from_its_report(world: World) -> None:
    world.tracer.completed(CompletedRequest(status=401, trace=parse_traceparent(SAMPLED)))
    known = CompletedRequest(status=413)
    world.tracer.completed(known)
    assert known.trace is not None
    assert known.trace.trace_id == world.emitted[1].trace_id
    world.tracer.completed(CompletedRequest(status=401, trace=parse_traceparent(NOT_SAMPLED)))
    assert [(traced.parent, traced.trace_id == TRACE) for traced in world.emitted] == [(SPAN, True), ("", False)]


def test_a_request_that_a_dead_picker_decided_keeps_its_place(world: World) -> None:
    span = world.forward(traceparent=SAMPLED)
    after = World(seed=2)
    after.tracer.completed(ended(span))
    assert (after.one.trace_id, after.one.parent, after.one.scheduled) == (TRACE, SPAN, None)
    assert after.one.span == int(header_of(span).span_id, 16) & ~0xF


def test_a_root_that_a_dead_picker_decided_stays_a_root(world: World) -> None:
    after = World(seed=2)
    after.tracer.completed(ended(world.forward()))
    assert after.one.parent == ""


def test_an_abandoned_decision_is_left_to_the_report(world: World) -> None:
    world.forward()
    world.tracer.abandoned("c")
    world.now += 2 * LIMIT
    world.tracer.sweep()
    assert world.emitted == []


# -- attempts ---------------------------------------------------------------------------------------------------------


def test_a_failover_has_two_attempts(world: World) -> None:
    span = world.forward()
    world.tracer.attempted(failed(span))
    world.tracer.completed(ended(span, attempts=2, address=SECOND))
    assert [a.address for a in world.one.all_attempts] == [FIRST, SECOND]
    assert [a.trace and a.trace.span_id[-1] for a in world.one.all_attempts] == ["1", "2"]


def test_attempts_that_are_reported_after_the_end_are_waited_for(world: World) -> None:
    span = world.forward()
    world.tracer.completed(ended(span, attempts=3))
    world.tracer.attempted(failed(span, 1))
    assert world.emitted == []
    world.tracer.attempted(failed(span, 2))
    assert len(world.one.all_attempts) == 3


def test_attempts_that_are_never_reported_are_waited_for_a_second(world: World) -> None:
    world.tracer.completed(ended(world.forward(), attempts=2))
    world.now += 0.9
    world.tracer.sweep()
    assert world.emitted == []
    world.now += 0.2
    world.tracer.sweep()
    assert len(world.one.all_attempts) == 1
    world.tracer.sweep()
    assert len(world.emitted) == 1


def test_the_end_of_the_process_waits_for_no_attempt(world: World) -> None:
    world.tracer.completed(ended(world.forward(), attempts=2))
    world.tracer.flush()
    assert len(world.emitted) == 1


def test_the_last_attempt_begins_before_its_first_byte(world: World) -> None:
    span = world.forward()
    times = {"started_at": 50.0, "ttft_seconds": 0.5, "attempt_first_byte_seconds": 0.2, "duration_seconds": 2.0}
    world.tracer.completed(ended(span, **times))
    [attempt] = world.one.all_attempts
    assert (attempt.started_at, attempt.first_byte_seconds, attempt.duration_seconds) == pytest.approx((50.3, 0.2, 1.7))


def test_an_attempt_without_a_first_byte_begins_after_the_one_before(world: World) -> None:
    span = world.forward()
    world.tracer.attempted(replace(failed(span), started_at=2_000_000_000.0, duration_seconds=1.5))
    world.tracer.completed(ended(span, attempts=2, started_at=1_999_999_999.0, duration_seconds=4.0))
    assert world.one.all_attempts[1].started_at == 2_000_000_001.5
    assert world.one.all_attempts[1].duration_seconds == 1.5


def test_attempts_of_others_change_nothing(world: World) -> None:
    span = world.forward()
    world.tracer.attempted(failed(World(seed=2).forward()))
    world.tracer.attempted(Attempt("r", FIRST, 503))
    world.tracer.completed(ended(span))
    assert world.one.attempts == ()


# -- requests without an end ------------------------------------------------------------------------------------------


def test_a_request_without_an_end_ends_by_the_time_limit(world: World) -> None:
    world.forward()
    world.now += LIMIT - 1
    world.tracer.sweep()
    assert world.emitted == []
    world.now += 1
    world.tracer.sweep()
    assert world.one.completed is None
    assert world.one.ended_at == 1_700_000_000.0 + world.now


def test_a_request_that_is_reported_to_run_gets_more_time(world: World) -> None:
    span = world.forward()
    quiet = world.forward(replace(FORWARD, correlation_id="quiet"))
    for _ in range(10):
        world.now += 10
        world.tracer.attempted(replace(failed(span), live=True, status=None))
        world.tracer.sweep()
    assert [traced.span for traced in world.emitted] == [int(header_of(quiet).span_id, 16) & ~0xF]
    world.tracer.completed(ended(span))
    assert len(world.emitted) == 2
    assert world.emitted[1].attempts == ()
