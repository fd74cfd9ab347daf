"""Prefer short waiting queues, with half the pull of other scorers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class LoadAwareScorer:
    """Score 0.5 without a waiting queue, falling linearly to 0 at the threshold; unknown stays unknown.

    Unlike ``queue-scorer`` the score is absolute: it does not depend on the other candidates.

    Attributes:
        threshold: Waiting requests at which an endpoint is full; ValueError unless positive.

    Source: ``load-aware-scorer`` of the llm-d router.
    """

    plugin_type: ClassVar[str] = "load-aware-scorer"

    threshold: int = 128

    def __post_init__(self) -> None:
        if self.threshold <= 0:
            msg = f"threshold must be positive, got {self.threshold}"
            raise ValueError(msg)

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:  # noqa: ARG002 - a queue is as long for every request
        """Return one score in [0, 0.5] per endpoint, aligned with *endpoints*; None where the queue is unknown."""
        return [
            None if (queue := endpoint.waiting_queue_size) is None else 0.5 * (1.0 - min(1.0, queue / self.threshold))
            for endpoint in endpoints
        ]
