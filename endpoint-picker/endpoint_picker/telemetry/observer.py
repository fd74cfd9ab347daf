"""Turns what request control reports into metrics, the request log line and recent speeds per endpoint."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.telemetry.logs import log_completion
from endpoint_picker.telemetry.metrics import PickerMetrics
from endpoint_picker.telemetry.tracing import RequestTracer

_SAMPLES: Final = 200
_SPEED_WINDOW_SECONDS: Final = 10.0
_MAX_RECORDS: Final = 4096
"""Addresses of Services have records too, and nobody says when they are gone."""


@dataclass(slots=True)
class EndpointRecord:
    """Recent history of one endpoint; written by the observer only."""

    requests: int = 0
    failed: int = 0
    ttfts: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    tokens: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def ttft_quantile(self, fraction: float) -> float | None:
        """Return a quantile of the recent times to first token, None without any."""
        ordered = sorted(self.ttfts)
        return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else None

    def tokens_per_second(self, now: float) -> float | None:
        """Return completion tokens per second over the last seconds; None if nothing was completed in them."""
        recent = [count for at, count in self.tokens if at > now - _SPEED_WINDOW_SECONDS]
        return sum(recent) / _SPEED_WINDOW_SECONDS if recent else None


class PickerObserver:
    """The one observer of request control.

    Args:
        metrics: Where everything is counted.
        clock: Monotonic seconds.
        tracer: Makes spans of what it hears; None: there are none.
    """

    def __init__(
        self, metrics: PickerMetrics, *, clock: Callable[[], float], tracer: RequestTracer | None = None
    ) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._clock = clock
        self._records: dict[str, EndpointRecord] = {}
        self._running: dict[str, str] = {}

    @property
    def records(self) -> Mapping[str, EndpointRecord]:
        """History by endpoint address."""
        return self._records

    def forget(self, address: str) -> None:
        """Drop the history of an endpoint that is gone."""
        self._records.pop(address, None)

    def scheduled(
        self, request: InferenceRequest, chosen: Endpoint | None, decision: SchedulingDecision | None, seconds: float
    ) -> None:
        """Count one scheduling attempt, and how much of the prompt the chosen endpoint is believed to have cached."""
        exemplar = None if self._tracer is None else self._tracer.scheduled(request, chosen, decision, seconds)
        self._metrics.record_scheduling(seconds, request.target_model, chosen, exemplar)
        if decision is not None and decision.prefix_hit_ratio is not None:
            self._metrics.record_prefix_hit(decision.prefix_hit_ratio)

    def stranger_ended(self) -> None:
        """Count the end of a request that this process did not have in flight."""
        self._metrics.record_unknown_release()

    def began(self, correlation_id: str, model: str) -> None:
        """Count a request as under way."""
        self._running[correlation_id] = self._metrics.record_begin(model)

    def ended(self, correlation_id: str) -> None:
        """Count it no more."""
        label = self._running.pop(correlation_id, None)
        if label is not None:
            self._metrics.record_end(label)

    def attempted(self, attempt: Attempt) -> None:
        """Count one attempt at an endpoint."""
        self._metrics.record_attempt(attempt)
        if self._tracer is not None:
            self._tracer.attempted(attempt)
        if attempt.failed:
            self._record(attempt.address).failed += 1

    def completed(self, completed: CompletedRequest) -> None:
        """Count and log one request at its end."""
        if self._tracer is not None:
            self._tracer.completed(completed)
        self._metrics.record_completion(completed)
        if completed.address:
            record = self._record(completed.address)
            record.requests += 1
            if completed.ttft_seconds is not None and completed.streaming is not False:
                record.ttfts.append(completed.ttft_seconds)
            if completed.usage.completion_tokens:
                record.tokens.append((self._clock(), completed.usage.completion_tokens))
        log_completion(completed)

    def expired(self, requests: int) -> None:
        """Count requests whose end was never reported."""
        self._metrics.record_ledger_expired(requests)

    def _record(self, address: str) -> EndpointRecord:
        record = self._records.get(address)
        if record is None:
            if len(self._records) >= _MAX_RECORDS:
                del self._records[next(iter(self._records))]
            record = self._records[address] = EndpointRecord()
        return record
