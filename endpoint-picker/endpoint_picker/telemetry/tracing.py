"""Requests on their way into spans: which trace each belongs to, and what is known of it when it has ended.

    request   from the data plane's report of its end; one per request, whatever became of it
    schedule  from the decision
    attempt   one per endpoint that was asked: reported by itself if it failed, told by the request's end if not

Span ids of one request differ in their last hexadecimal digit: 0 is the request, f the scheduling, 1 and up are the
attempts. So the data plane can name each attempt by its number, and a picker that was started again while a request ran
still knows from its report which spans it has.

Nothing here knows a tracing library. Written by the event loop's thread only.
"""

import random
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from itertools import takewhile
from types import TracebackType
from typing import Final

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.domain.trace_context import TraceContext, parse_traceparent
from endpoint_picker.requestcontrol.exchange import Forward, RequestHead, SpanHeaders
from endpoint_picker.requestcontrol.ports import Clock
from envoy_config import names

NO_SPAN: Final = "0" * 16
_RANDOM_FLAG: Final = 2
"""The trace id was drawn at random; kept as it came."""
_LATE_REPORT_SECONDS: Final = 1.0
"""The end of a request and its failed attempts come on two streams; the ends wait so long for the others."""
_MAX_OPEN: Final = 65_536
_STATE_LENGTH: Final = 8192
_STATE_MEMBERS: Final = 32
_STATE_MEMBER: Final = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=[ -+\--<>-~]{1,256}"
)


Sample = Callable[[TraceContext | None, str], bool]
"""Decides at its start whether a request is recorded, by what it came with, if anything, and by its trace id."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One scheduling attempt.

    Attributes:
        model: Model the client asked for.
        engine: Kind of the model server that was chosen, empty if it is not known.
        prompt_tokens: Estimate.
        decision: None where nothing could be chosen.
        ended_at: Seconds since the epoch.
        seconds: How long it took.
    """

    model: str
    engine: str
    prompt_tokens: int
    decision: SchedulingDecision | None
    ended_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """Everything the spans of one sampled request are made of.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span: Id of the request's span, its last digit 0.
        parent: Span id of the client, empty if it named none.
        state: ``tracestate``, may be empty.
        begun_at: When it was decided, seconds since the epoch.
        authority: Host as the client sent it.
        user_agent: The client's product.
        method: Method, as the picker saw it.
        path: Path without query, as the picker saw it.
        pool: Pool it was sent to, empty if none.
        refusal: Error class with which the picker refused it, empty if it did not.
        scheduled: How its endpoints were chosen; None: not at all, or by a picker that is gone.
        attempts: Attempts that were reported by themselves, in the order of their reports.
        completed: Its end; None: it was never reported.
        ended_at: When that was given up, seconds since the epoch.
    """

    trace_id: str
    span: int
    parent: str = ""
    state: str = ""
    begun_at: float = 0.0
    authority: str = ""
    user_agent: str = ""
    method: str = ""
    path: str = ""
    pool: str = ""
    refusal: str = ""
    scheduled: Scheduled | None = None
    attempts: tuple[Attempt, ...] = ()
    completed: CompletedRequest | None = None
    ended_at: float = 0.0

    @property
    def span_count(self) -> int:
        """How many spans it makes."""
        return 1 + (self.scheduled is not None) + len(self.attempts) + (self._answering_attempt is not None)

    @property
    def all_attempts(self) -> tuple[Attempt, ...]:
        """Every attempt that is known; the last one is told by the end of the request, unless it was reported."""
        last = self._answering_attempt
        return self.attempts if last is None else (*self.attempts, last)

    @property
    def _answering_attempt(self) -> Attempt | None:
        completed = self.completed
        if completed is None or completed.attempts <= len(self.attempts) or not completed.address:
            return None
        began, first = completed.started_at, completed.attempt_first_byte_seconds
        if completed.ttft_seconds is not None and first is not None:
            start = began + completed.ttft_seconds - first
        else:
            ends = [attempt.started_at + (attempt.duration_seconds or 0.0) for attempt in self.attempts]
            start = max(began, self.scheduled.ended_at if self.scheduled is not None else 0.0, *ends, 0.0)
        return Attempt(
            completed.request_id,
            completed.address,
            completed.status or None,
            flags=completed.flags,
            started=completed.ttft_seconds is not None,
            first_byte_seconds=None if completed.ttft_seconds is None else began + completed.ttft_seconds - start,
            duration_seconds=max(0.0, began + completed.duration_seconds - start),
            trace=completed.trace,
            started_at=start,
        )


Emit = Callable[[TracedRequest], None]


@dataclass(slots=True)
class _Open:
    """One request between its decision and its end; a `RequestTrace`."""

    tracer: "RequestTracer"
    trace_id: str
    span: int
    parent: TraceContext | None
    state: str
    drops_state: bool
    flags: int
    sampled: bool
    begun_at: float
    seen: float
    authority: str = ""
    user_agent: str = ""
    method: str = ""
    path: str = ""
    pool: str = ""
    refusal: str = ""
    scheduled: Scheduled | None = None
    attempts: list[Attempt] = field(default_factory=list)
    correlation_id: str = ""
    token: "Token[_Open | None] | None" = None

    def __enter__(self) -> None:
        self.token = _CURRENT.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.token is not None:
            _CURRENT.reset(self.token)

    @property
    def origin(self) -> str:
        return NO_SPAN if self.parent is None else self.parent.span_id

    def forwarded(self, forward: Forward) -> SpanHeaders:
        if self.sampled:
            self.pool = forward.cluster if forward.addresses else ""
            self.tracer.remember(self, forward.correlation_id)
        return SpanHeaders(
            parent=f"00-{self.trace_id}-{self.span:016x}"[:-1],
            flags=f"-{self.flags:02x}",
            origin=self.origin if self.sampled else "",
            drops_state=self.drops_state,
        )

    def refused(self, correlation_id: str, reason: str) -> None:
        self.refusal = reason
        if self.sampled:
            self.tracer.remember(self, correlation_id)

    def answered(self, correlation_id: str) -> None:
        if self.sampled:
            self.tracer.remember(self, correlation_id)

    def finished(self, completed: CompletedRequest | None, ended_at: float) -> TracedRequest:
        return TracedRequest(
            trace_id=self.trace_id,
            span=self.span,
            parent="" if self.parent is None else self.parent.span_id,
            state=self.state,
            begun_at=self.begun_at,
            authority=self.authority,
            user_agent=self.user_agent,
            method=self.method,
            path=self.path,
            pool=self.pool,
            refusal=self.refusal,
            scheduled=self.scheduled,
            attempts=tuple(self.attempts),
            completed=completed,
            ended_at=ended_at,
        )


_CURRENT: Final[ContextVar[_Open | None]] = ContextVar("trace", default=None)
"""Trace of the request that is being decided here."""


class RequestTracer:
    """Joins what is learned of sampled requests and emits each at its end, once.

    Args:
        sample: Decides which requests are recorded.
        emit: Takes a request that is known as far as it will be; must not block.
        rng: Draws ids.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.
        limit_seconds: A request of which nothing was reported for so long ends with an error.
    """

    def __init__(
        self,
        sample: Sample,
        emit: Emit,
        *,
        rng: random.Random,
        clock: Clock,
        wall_clock: Clock,
        limit_seconds: float,
    ) -> None:
        self._sample = sample
        self._emit = emit
        self._rng = rng
        self._clock = clock
        self._wall_clock = wall_clock
        self._limit_seconds = limit_seconds
        self._open: dict[str, _Open] = {}
        self._by_span: dict[int, _Open] = {}
        self._ended: dict[int, tuple[_Open, CompletedRequest]] = {}

    # -- the way in -------------------------------------------------------------------------------------------------

    def begin(self, head: RequestHead) -> _Open:
        """Continue the trace that the request came with, or begin one; decides whether it is sampled."""
        headers = head.headers
        parent = parse_traceparent(headers.get(names.TRACEPARENT_HEADER, ""))
        came = headers.get(names.TRACESTATE_HEADER, "")
        state = came if parent is not None and came and _valid_state(came) else ""
        trace_id = self._new_trace_id() if parent is None else parent.trace_id
        sampled = self._sample(parent, trace_id)
        kept = 0 if parent is None else parent.flags & _RANDOM_FLAG
        trace = _Open(
            tracer=self,
            trace_id=trace_id,
            span=self._new_span(),
            parent=parent,
            state=state,
            drops_state=state != came,
            flags=kept | sampled,
            sampled=sampled,
            begun_at=self._wall_clock(),
            seen=self._clock(),
        )
        if sampled:
            trace.authority, trace.user_agent = head.authority, headers.get("user-agent", "")
            trace.method, trace.path = head.method, head.path.partition("?")[0]
        return trace

    def scheduled(
        self, request: InferenceRequest, chosen: Endpoint | None, decision: SchedulingDecision | None, seconds: float
    ) -> Mapping[str, str] | None:
        """Learn how the request that is being decided here was scheduled; return it as an exemplar if it is sampled."""
        trace = _CURRENT.get()
        if trace is None or not trace.sampled:
            return None
        engine = chosen.metrics.engine if chosen is not None and chosen.metrics is not None else ""
        trace.scheduled = Scheduled(request.model, engine, request.prompt_tokens, decision, self._wall_clock(), seconds)
        return {"trace_id": trace.trace_id}

    def remember(self, trace: _Open, correlation_id: str) -> None:
        """Keep a sampled request until its end is reported."""
        if correlation_id and len(self._open) < _MAX_OPEN:
            trace.correlation_id = correlation_id
            self._open[correlation_id] = trace
            self._by_span[trace.span] = trace

    def abandoned(self, correlation_id: str) -> None:
        """Forget a request whose decision did not reach the data plane; its report, if one comes, says enough."""
        self._forget(correlation_id)

    # -- the way back -----------------------------------------------------------------------------------------------

    def attempted(self, attempt: Attempt) -> None:
        """Learn of one attempt that failed, or that a request is under way."""
        if attempt.trace is None or not attempt.trace.sampled:
            return
        span = int(attempt.trace.span_id, 16) & ~0xF
        trace = self._by_span.get(span)
        if trace is not None:
            if attempt.live:
                trace.seen = self._clock()
                self._open[trace.correlation_id] = self._open.pop(trace.correlation_id)
            else:
                trace.attempts.append(attempt)
            return
        ended = self._ended.get(span)
        if ended is not None and not attempt.live:
            ended[0].attempts.append(attempt)
            self._emit_complete(span, *ended)

    def completed(self, completed: CompletedRequest) -> None:
        """Learn the end of a request, of any that the data plane saw; fill in its place in its trace."""
        trace = self._forget(completed.correlation_id) if completed.correlation_id else None
        if trace is None:
            self._end_unknown(completed)
            return
        if completed.attempts == 0:
            # it was never sent on, so what was reported is the client's place, or none
            completed.trace = TraceContext(trace.trace_id, f"{trace.span:016x}", trace.flags)
        trace.seen = self._clock()
        self._ended[trace.span] = (trace, completed)
        self._emit_complete(trace.span, trace, completed)

    def _emit_complete(self, span: int, trace: _Open, completed: CompletedRequest) -> None:
        """Emit a request that has ended once all its attempts are known."""
        answered = completed.answered_attempt is not None
        if len(trace.attempts) >= completed.attempts - answered:
            del self._ended[span]
            self._emit(trace.finished(completed, 0.0))

    def _end_unknown(self, completed: CompletedRequest) -> None:
        """Emit a request that this process did not decide: nobody did, or a picker that is gone."""
        came = completed.trace
        if completed.trace_origin:
            if came is not None and came.sampled:
                origin = "" if completed.trace_origin == NO_SPAN else completed.trace_origin
                span = int(came.span_id, 16) & ~0xF
                self._emit(TracedRequest(came.trace_id, span, parent=origin, completed=completed))
        elif not completed.correlation_id:
            trace_id = self._new_trace_id() if came is None else came.trace_id
            if self._sample(came, trace_id):
                span, parent = self._new_span(), "" if came is None else came.span_id
                completed.trace = TraceContext(trace_id, f"{span:016x}", 1)
                self._emit(TracedRequest(trace_id, span, parent=parent, completed=completed))

    def sweep(self) -> None:
        """Emit what has waited long enough for reports that do not come."""
        now, at = self._clock(), self._wall_clock()
        late = takewhile(lambda item: item[1][0].seen <= now - _LATE_REPORT_SECONDS, list(self._ended.items()))
        for span, (trace, completed) in late:
            del self._ended[span]
            self._emit(trace.finished(completed, 0.0))
        lost = takewhile(lambda trace: trace.seen <= now - self._limit_seconds, list(self._open.values()))
        for trace in lost:
            self._forget(trace.correlation_id)
            self._emit(trace.finished(None, at))

    def flush(self) -> None:
        """Emit every request that has ended, whether all its attempts are known or not."""
        for trace, completed in self._ended.values():
            self._emit(trace.finished(completed, 0.0))
        self._ended.clear()

    def _forget(self, correlation_id: str) -> _Open | None:
        trace = self._open.pop(correlation_id, None)
        if trace is not None:
            del self._by_span[trace.span]
        return trace

    def _new_trace_id(self) -> str:
        return f"{self._rng.getrandbits(128) or 1:032x}"

    def _new_span(self) -> int:
        return (self._rng.getrandbits(60) or 1) << 4


def _valid_state(text: str) -> bool:
    """Return whether *text* is a ``tracestate`` that fits a header that others must take."""
    if len(text) > _STATE_LENGTH:
        return False
    members = [member.strip(" \t") for member in text.split(",")]
    present = [member for member in members if member]
    keys = {member.partition("=")[0] for member in present}
    return len(keys) == len(present) <= _STATE_MEMBERS and all(_STATE_MEMBER.fullmatch(m) for m in present)
