"""Prefer the endpoint with the shortest waiting queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class QueueScorer:
    """Score the shortest waiting queue 1 and the longest 0, linearly between.

    The queue is the scraped one, corrected by what was placed or ended since. Equal queues all score 1: an idle pool is
    left to the other scorers. Unknown stays unknown.

    Attributes:
        neutral_spread: Queues that differ by at most this many requests count as equal; ValueError if negative.

    Source: ``queue-scorer`` of the Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "queue-scorer"

    neutral_spread: int = 0

    def __post_init__(self) -> None:
        if self.neutral_spread < 0:
            msg = f"neutral_spread must not be negative, got {self.neutral_spread}"
            raise ValueError(msg)

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:  # noqa: ARG002 - a queue is as long for every request
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*; None where the queue is unknown."""
        queues = [
            # As `Endpoint.waiting_queue_size`, without two calls per endpoint.
            None
            if (metrics := endpoint.metrics) is None or (queue := metrics.waiting_queue_size) is None
            else max(0, queue + endpoint.in_flight.requests - metrics.in_flight_when_read)
            for endpoint in endpoints
        ]
        known = [queue for queue in queues if queue is not None]
        longest = max(known) if known else 0
        spread = longest - min(known) if known else 0
        if spread <= self.neutral_spread:
            return [None if queue is None else 1.0 for queue in queues]
        return [None if queue is None else (longest - queue) / spread for queue in queues]
