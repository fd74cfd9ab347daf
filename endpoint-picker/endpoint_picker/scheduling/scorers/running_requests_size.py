"""Prefer the endpoint that computes the fewest requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class RunningRequestsSizeScorer:
    """Score the fewest running requests 1 and the most 0, linearly between; equal numbers all score 1.

    Requests placed or ended since the reading count as running: otherwise every pick between two readings would go to
    the same endpoint. Unknown stays unknown.

    Source: ``running-requests-size-scorer`` of the Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "running-requests-size-scorer"

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:  # noqa: ARG002 - as many run for every request
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*; None where the number is unknown."""
        sizes = [_running(endpoint) for endpoint in endpoints]
        known = [size for size in sizes if size is not None]
        most = max(known, default=0)
        spread = most - min(known, default=0)
        if spread == 0:
            return [None if size is None else 1.0 for size in sizes]
        return [None if size is None else (most - size) / spread for size in sizes]


def _running(endpoint: Endpoint) -> int | None:
    metrics = endpoint.metrics
    if metrics is None or metrics.running_requests is None:
        return None
    return max(0, metrics.running_requests + endpoint.unseen_requests)
