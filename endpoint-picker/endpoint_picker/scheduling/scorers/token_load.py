"""Prefer the endpoint with the fewest of our own tokens in flight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class TokenLoadScorer:
    """Score 1 without tokens in flight, falling linearly to 0 at the threshold.

    The ledger is never stale, so this is always known.

    Attributes:
        queue_threshold_tokens: In-flight tokens at which an endpoint is full; ValueError unless positive.

    Source: ``token-load-scorer`` of the llm-d router.
    """

    plugin_type: ClassVar[str] = "token-load-scorer"

    queue_threshold_tokens: int = 4_194_304

    def __post_init__(self) -> None:
        if self.queue_threshold_tokens <= 0:
            msg = f"queue_threshold_tokens must be positive, got {self.queue_threshold_tokens}"
            raise ValueError(msg)

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:  # noqa: ARG002 - the load is the same for every request
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*."""
        full = self.queue_threshold_tokens
        return [1.0 - min(1.0, endpoint.in_flight.total_tokens / full) for endpoint in endpoints]
