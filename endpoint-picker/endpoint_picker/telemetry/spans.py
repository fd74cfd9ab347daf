"""Spans of the OpenTelemetry SDK, made from requests that have ended. Needs the extra ``otel``."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Final, TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from endpoint_picker.domain.completion import Attempt
from endpoint_picker.domain.trace_context import TraceContext
from endpoint_picker.telemetry import span_attributes as says
from endpoint_picker.telemetry.tracing import Sample, TracedRequest

SCOPE: Final = "inference-gateway"
SCHEDULE_SPAN: Final = "schedule"
FIRST_TOKEN_EVENT: Final = "first_token"  # noqa: S105 - an event, not a credential

_UNNAMED_SERVICE: Final = "unknown_service"
_SCHEDULE_DIGIT: Final = 0xF
_LAST_ATTEMPT_DIGIT: Final = 0xE
_NOTHING: Final = Context()
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_ERROR: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)

_Times: TypeAlias = tuple[float, float | None, float]
"""Begin of a span, the seconds from there to the first token, and its end."""


def sample_by(sampler: Sampler) -> Sample:
    """Return the decision of an SDK *sampler* on requests, of which it learns the trace and nothing else."""

    def sample(parent: TraceContext | None, trace_id: str) -> bool:
        context = None
        if parent is not None:
            came = SpanContext(
                int(trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=TraceFlags(parent.flags)
            )
            context = set_span_in_context(NonRecordingSpan(came), _NOTHING)
        result = sampler.should_sample(context, int(trace_id, 16), SCOPE, SpanKind.SERVER)
        return result.decision is Decision.RECORD_AND_SAMPLE

    return sample


def resource_of(instance_id: str) -> Resource:
    """Return who makes the spans: what the environment says, for the rest our own words."""
    found = Resource.create()
    ours = {SERVICE_NAME: SCOPE, SERVICE_VERSION: version(SCOPE), SERVICE_INSTANCE_ID: instance_id}
    if str(found.attributes.get(SERVICE_NAME, "")).startswith(_UNNAMED_SERVICE):
        found = found.merge(Resource({SERVICE_NAME: SCOPE}))
    return Resource(ours).merge(found)


class _OneResource(Resource):
    """A resource that is compared by what it is, not by what it says: exporters hash it once per span."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class SpanFactory:
    """Makes the spans of one request at a time.

    The SDK's own way, a tracer, would draw new ids and decide on sampling once more, at several times the cost.

    Args:
        resource: Who makes them.
    """

    def __init__(self, resource: Resource) -> None:
        self._resource = _OneResource(resource.attributes, resource.schema_url)
        self._scope = InstrumentationScope(SCOPE, version(SCOPE))

    def spans(self, traced: TracedRequest) -> list[ReadableSpan]:
        """Return the spans of *traced*, the request's own first."""
        state = TraceState.from_header([traced.state]) if traced.state else None
        trace_id = int(traced.trace_id, 16)

        def context(span_id: int, *, remote: bool = False) -> SpanContext:
            return SpanContext(trace_id, span_id, is_remote=remote, trace_flags=_SAMPLED, trace_state=state)

        request = context(traced.span)
        client = context(int(traced.parent, 16), remote=True) if traced.parent else None
        attributes = says.request_attributes(traced)
        name = says.request_name(traced)
        spans = [self._span(name, SpanKind.SERVER, request, client, attributes, _request_times(traced))]
        if (scheduled := traced.scheduled) is not None:
            there = context(traced.span | _SCHEDULE_DIGIT)
            attributes = says.schedule_attributes(traced)
            times = (scheduled.ended_at - scheduled.seconds, None, scheduled.ended_at)
            spans.append(self._span(SCHEDULE_SPAN, SpanKind.INTERNAL, there, request, attributes, times))
        for attempt, number in _numbered(traced):
            there = context(traced.span | number)
            attributes = says.attempt_attributes(traced, attempt, number)
            name = says.attempt_name(traced)
            spans.append(self._span(name, SpanKind.CLIENT, there, request, attributes, _attempt_times(attempt)))
        return spans

    def _span(
        self,
        name: str,
        kind: SpanKind,
        here: SpanContext,
        parent: SpanContext | None,
        attributes: says.Attributes,
        times: _Times,
    ) -> ReadableSpan:
        began, first_token, ended = times
        events = () if first_token is None else (Event(FIRST_TOKEN_EVENT, timestamp=_nanoseconds(began + first_token)),)
        return ReadableSpan(
            name,
            here,
            parent,
            self._resource,
            attributes,
            events,
            kind=kind,
            status=_ERROR if says.ERROR_TYPE in attributes else _UNSET,
            start_time=_nanoseconds(began),
            end_time=_nanoseconds(ended),
            instrumentation_scope=self._scope,
        )


def _request_times(traced: TracedRequest) -> _Times:
    completed = traced.completed
    if completed is None:
        return traced.begun_at, None, traced.ended_at
    began = completed.started_at or traced.begun_at
    return began, completed.ttft_seconds, began + completed.duration_seconds


def _attempt_times(attempt: Attempt) -> _Times:
    return attempt.started_at, attempt.first_byte_seconds, attempt.started_at + (attempt.duration_seconds or 0.0)


def _numbered(traced: TracedRequest) -> Iterator[tuple[Attempt, int]]:
    """Yield every attempt with its number, which is the last digit of its span id; each number once."""
    used: set[int] = set()
    for attempt in traced.all_attempts:
        named = 0 if attempt.trace is None else int(attempt.trace.span_id, 16)
        number = named & 0xF if named & ~0xF == traced.span else 0
        if not 0 < number <= _LAST_ATTEMPT_DIGIT or number in used:
            number = next((n for n in range(1, _LAST_ATTEMPT_DIGIT + 1) if n not in used), 0)
        if number:
            used.add(number)
            yield attempt, number


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
