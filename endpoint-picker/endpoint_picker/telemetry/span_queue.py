"""What waits for its export: a bounded queue that a thread empties, so that no collector ever slows a request.

A queue that is full drops what comes, and counts it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum

from endpoint_picker.telemetry.tracing import TracedRequest

logger = logging.getLogger(__name__)


class SpanOutcome(StrEnum):
    """What became of a span."""

    EXPORTED = "exported"
    FAILED = "failed"
    """The collector did not take it."""
    DROPPED = "dropped"
    """The queue was full, or the process ended."""


Export = Callable[[Sequence[TracedRequest]], str]
"""Sends the spans of some requests, in the queue's thread; returns why they were not taken, empty if they were."""


class SpanQueue:
    """Requests that wait for the export of their spans.

    Args:
        export: Sends some of them.
        counted: Hears what became of how many spans; called in any thread.
        max_spans: Spans that may wait.
        max_batch_spans: Spans in one export, about.
        delay_seconds: Longest wait before one.
    """

    def __init__(
        self,
        export: Export,
        counted: Callable[[SpanOutcome, int], None],
        *,
        max_spans: int,
        max_batch_spans: int,
        delay_seconds: float,
    ) -> None:
        self._export = export
        self._counted = counted
        self._max_spans = max_spans
        self._max_batch_spans = max_batch_spans
        self._delay_seconds = delay_seconds
        self._waiting: deque[TracedRequest] = deque()
        self._spans = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)

    def start(self) -> None:
        """Begin to export."""
        self._thread.start()

    def put(self, traced: TracedRequest) -> None:
        """Add a request, or drop it when there is no room."""
        spans = traced.span_count
        with self._lock:
            room = self._spans + spans <= self._max_spans and not self._closed
            if room:
                self._waiting.append(traced)
                self._spans += spans
        if not room:
            self._counted(SpanOutcome.DROPPED, spans)
        elif self._spans >= self._max_batch_spans:
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Export what waits, for at most *seconds*; the rest is dropped. Blocks."""
        with self._lock:
            self._closed = True
        self._wake.set()
        self._thread.join(seconds)
        with self._lock:
            dropped, self._spans = self._spans, 0
            self._waiting.clear()
        if dropped:
            self._counted(SpanOutcome.DROPPED, dropped)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._delay_seconds)
            self._wake.clear()
            while batch := self._take():
                self._send(batch)
                if self._spans < self._max_batch_spans and not self._closed:
                    break
            if self._closed and not self._waiting:
                return

    def _take(self) -> list[TracedRequest]:
        batch: list[TracedRequest] = []
        spans = 0
        with self._lock:
            while self._waiting and spans < self._max_batch_spans:
                batch.append(self._waiting.popleft())
                spans += batch[-1].span_count
            self._spans = max(0, self._spans - spans)
        return batch

    def _send(self, batch: Sequence[TracedRequest]) -> None:
        try:
            problem = self._export(batch)
        except Exception as error:  # noqa: BLE001 - a batch is the unit that ends here
            problem = f"{type(error).__name__}: {error}"
        self._counted(SpanOutcome.FAILED if problem else SpanOutcome.EXPORTED, sum(item.span_count for item in batch))
        if bool(problem) is self._failing:
            return
        self._failing = bool(problem)
        if problem:
            logger.warning("traces cannot be exported, spans are lost until they can", extra={"reason": problem})
        else:
            logger.info("traces are exported again")
