"""Prefer the endpoint with the fewest of our own in-flight requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class ActiveRequestScorer:
    """Score 1 up to the idle threshold, above it the distance to the busiest candidate.

    A busy endpoint with ``c`` in-flight requests, the busiest having ``m``, scores ``(m - c) / m * max_busy_score``.
    The ledger is never stale, so this is always known.

    Attributes:
        idle_threshold: In-flight requests up to which an endpoint counts as idle; ValueError if negative.
        max_busy_score: Ceiling for busy endpoints, 0 to 1, else ValueError; below 1 prefers idle ones more sharply.

    Source: ``active-request-scorer`` of the llm-d router.
    """

    plugin_type: ClassVar[str] = "active-request-scorer"

    idle_threshold: int = 0
    max_busy_score: float = 1.0

    def __post_init__(self) -> None:
        if self.idle_threshold < 0:
            msg = f"idle_threshold must not be negative, got {self.idle_threshold}"
            raise ValueError(msg)
        if not 0.0 <= self.max_busy_score <= 1.0:
            msg = f"max_busy_score must be between 0 and 1, got {self.max_busy_score}"
            raise ValueError(msg)

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:  # noqa: ARG002 - every request weighs the same
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*."""
        active = [endpoint.in_flight.requests for endpoint in endpoints]
        busiest = max(active, default=0)
        idle = self.idle_threshold
        ceiling = self.max_busy_score
        return [1.0 if count <= idle else (busiest - count) / busiest * ceiling for count in active]
