"""Around the director: every request that is decided, refused or answered here has one trace, which goes on with it."""

import asyncio
import json
import random
import time

import pytest

from endpoint_picker.domain.completion import CompletedRequest
from endpoint_picker.domain.errors import ModelNotFound, RouteNotFound
from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.director import LARGE_BODY_BYTES
from endpoint_picker.requestcontrol.exchange import Forward
from endpoint_picker.requestcontrol.traced_director import TracedDirector
from endpoint_picker.telemetry.metrics import PickerMetrics
from endpoint_picker.telemetry.observer import PickerObserver
from endpoint_picker.telemetry.tracing import RequestTracer, TracedRequest
from picker_world import POOL, World, entry_to, model_of, pool_of, resolution_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class TracedWorld(World):
    """A world whose observer is the real one, with a tracer behind it."""

    def __init__(self) -> None:
        super().__init__(resolution_of(entry_to(POOL), pools=[pool_of(models={"m": model_of("m")})]))
        self.emitted: list[TracedRequest] = []
        self.tracer = RequestTracer(
            lambda parent, _: parent is None or parent.sampled,
            self.emitted.append,
            rng=random.Random(1),
            clock=lambda: self.now,
            wall_clock=time.time,
            limit_seconds=60.0,
        )
        self.director._observer = PickerObserver(
            PickerMetrics(clock=time.monotonic), clock=time.monotonic, tracer=self.tracer
        )
        self.traced = TracedDirector(self.director, self.tracer)

    def decide(self, model: str = "m", content: str = "hi", **headers: str) -> Forward:
        """Decide a chat, a large one in a thread."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": content}]}).encode()

        async def decided() -> Forward:
            decision = self.traced.decide(self.head(**headers), body)
            return decision if isinstance(decision, Forward) else await decision

        return asyncio.run(decided())

    @property
    def one(self) -> TracedRequest:
        [traced] = self.emitted
        return traced


@pytest.fixture
def world() -> TracedWorld:
    return TracedWorld()


@pytest.mark.parametrize("content", ["hi", "x" * LARGE_BODY_BYTES], ids=["small", "large"])
def test_a_decision_carries_its_span_and_ends_with_the_request(world: TracedWorld, content: str) -> None:
    forward = world.decide(content=content, traceparent=CLIENT)
    assert forward.span is not None
    assert forward.span.parent.startswith(f"00-{TRACE}-")
    world.traced.completed(CompletedRequest(forward.correlation_id, status=200))
    assert world.one.scheduled is not None
    assert world.one.scheduled.decision is forward.decision
    assert world.one.completed is not None
    assert (world.one.completed.model, world.one.completed.pool) == ("m", POOL.cluster_name)
    assert world.idle


def test_what_is_not_sampled_carries_its_trace_all_the_same(world: TracedWorld) -> None:
    forward = world.decide(traceparent=CLIENT[:-1] + "0")
    assert forward.span is not None
    assert (forward.span.parent[:35], forward.span.flags) == (f"00-{TRACE}", "-00")
    world.traced.completed(CompletedRequest(forward.correlation_id, status=200))
    assert world.emitted == []


@pytest.mark.parametrize("content", ["hi", "x" * LARGE_BODY_BYTES], ids=["small", "large"])
def test_a_refusal_is_traced_under_its_class(world: TracedWorld, content: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        world.decide("other", content)
    world.traced.completed(CompletedRequest(raised.value.correlation_id, status=404))
    assert (world.one.refusal, world.one.scheduled) == ("ModelNotFound", None)
    assert world.one.completed is not None
    assert world.one.completed.model == "other"


def test_a_list_of_models_is_traced(world: TracedWorld) -> None:
    answer = world.traced.answer_early(world.head("/v1/models", method="GET"))
    assert answer is not None
    world.traced.completed(CompletedRequest(answer.correlation_id, status=200))
    assert (world.one.method, world.one.path) == ("GET", "/v1/models")


def test_what_needs_its_body_is_not_begun_yet(world: TracedWorld) -> None:
    assert world.traced.answer_early(world.head()) is None
    world.traced.check_head(world.head())
    with pytest.raises(RouteNotFound):
        world.traced.check_head(type(world.head())("POST", "/v1/chat/completions"))


def test_an_abandoned_decision_is_forgotten(world: TracedWorld) -> None:
    forward = world.decide()
    world.traced.abandon(forward.correlation_id)
    world.now += 120
    world.tracer.sweep()
    assert world.emitted == []
    assert world.idle


def test_what_is_read_of_the_answer_reaches_the_end(world: TracedWorld) -> None:
    forward = world.decide()
    world.traced.first_token(forward.correlation_id)
    world.traced.note_usage(forward.correlation_id, Usage(3, 4))
    world.traced.completed(CompletedRequest(forward.correlation_id, status=200))
    assert world.one.completed is not None
    assert world.one.completed.usage == Usage(3, 4)
