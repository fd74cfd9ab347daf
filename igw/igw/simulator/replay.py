"""Requests against several engines in virtual time: no clock, no network, the same answer every time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from igw.simulator.admission_errors import QueueFullError, SequenceTooLongError
from igw.simulator.engine import Engine
from igw.simulator.sequence import SequenceRequest


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A request and when it arrives.

    Attributes:
        arrival_seconds: From the start of the replay.
        request: What is asked for; its id is unique in the replay.
    """

    arrival_seconds: float
    request: SequenceRequest


@dataclass(slots=True)
class RequestRecord:
    """What became of one request; seconds are from the start of the replay.

    Attributes:
        request: What was asked for.
        engine: Index of the engine that got it.
        arrival_seconds: When it arrived.
        first_token_seconds: End of the step that brought its first token; None while there is none.
        last_token_seconds: End of the step that completed it; None while it is not complete.
        cached_tokens: Prompt tokens found in the prefix cache.
        preemptions: Times its KV was taken away.
        rejected: Whether the engine refused it.
    """

    request: SequenceRequest
    engine: int
    arrival_seconds: float
    first_token_seconds: float | None = None
    last_token_seconds: float | None = None
    cached_tokens: int = 0
    preemptions: int = 0
    rejected: bool = False

    @property
    def ttft_seconds(self) -> float | None:
        """Time to the first token, None where there was none."""
        return None if self.first_token_seconds is None else self.first_token_seconds - self.arrival_seconds

    @property
    def tpot_seconds(self) -> float | None:
        """Mean time between two tokens, None with fewer than two."""
        if self.first_token_seconds is None or self.last_token_seconds is None or self.request.output_tokens < 2:
            return None
        return (self.last_token_seconds - self.first_token_seconds) / (self.request.output_tokens - 1)


Policy = Callable[[TimedRequest, Sequence[Engine]], int]
"""Chooses the index of an engine for a request, from the engines as they are when it arrives."""

Observer = Callable[[float, RequestRecord], None]
"""Told the virtual time whenever a request brought its first token and when it completed or was rejected."""


def replay(
    requests: Iterable[TimedRequest], engines: Sequence[Engine], policy: Policy, observer: Observer | None = None
) -> list[RequestRecord]:
    """Run *requests* to their end and return one record each, in order of arrival.

    Arrivals come before step ends of the same moment. *requests* is consumed lazily.

    Raises:
        ValueError: *requests* are not sorted by arrival, or the policy chose an engine that does not exist.
    """
    return _Replay(engines, policy, observer).run(requests)


class _Replay:
    """State of one replay: the ends of the steps in flight and the records so far."""

    def __init__(self, engines: Sequence[Engine], policy: Policy, observer: Observer | None) -> None:
        self._engines = engines
        self._policy = policy
        self._observe = observer or (lambda _now, _record: None)
        self._step_ends: list[tuple[float, int]] = []
        self._records: list[RequestRecord] = []
        self._live: dict[int, RequestRecord] = {}

    def run(self, requests: Iterable[TimedRequest]) -> list[RequestRecord]:
        now = 0.0
        for timed in requests:
            if timed.arrival_seconds < now:
                msg = f"requests are not sorted by arrival: {timed.arrival_seconds} after {now}"
                raise ValueError(msg)
            now = timed.arrival_seconds
            self._finish_steps(before=now)
            self._arrive(timed)
        self._finish_steps(before=float("inf"))
        return self._records

    def _arrive(self, timed: TimedRequest) -> None:
        index = self._policy(timed, self._engines)
        if not 0 <= index < len(self._engines):
            msg = f"the policy chose engine {index} of {len(self._engines)}"
            raise ValueError(msg)
        record = RequestRecord(timed.request, index, timed.arrival_seconds)
        self._records.append(record)
        engine = self._engines[index]
        try:
            engine.submit(timed.request)
        except (QueueFullError, SequenceTooLongError):
            record.rejected = True
            self._observe(timed.arrival_seconds, record)
            return
        self._live[timed.request.sequence_id] = record
        if not engine.stepping:
            self._start(index, timed.arrival_seconds)

    def _start(self, index: int, now: float) -> None:
        seconds = self._engines[index].start_step()
        if seconds is not None:
            heappush(self._step_ends, (now + seconds, index))

    def _finish_steps(self, before: float) -> None:
        """Finish every step that ends before the given moment, and start the next one of its engine."""
        ends = self._step_ends
        while ends and ends[0][0] < before:
            now, index = heappop(ends)
            result = self._engines[index].finish_step()
            live = self._live
            for sequence_id in result.emitted:
                record = live[sequence_id]
                if record.first_token_seconds is None:
                    record.first_token_seconds = now
                    self._observe(now, record)
            for state in result.finished:
                record = live.pop(state.request.sequence_id)
                record.last_token_seconds = now
                record.cached_tokens = state.cached_tokens or 0
                record.preemptions = state.preemptions
                self._observe(now, record)
            self._start(index, now)
