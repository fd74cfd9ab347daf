"""Prefer the endpoint with the fewest prompt tokens left to compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class PrefillBacklogScorer:
    """Score the least prefill backlog 1 and the largest 0, linearly between.

    A new prompt waits for the prompts before it far longer than for the answers that are being written, so this says
    more about the time to the first token than the number of requests does. The ledger is never stale, so this is
    always known.

    Attributes:
        neutral_tokens: Backlogs that differ by at most this many tokens count as equal; ValueError if negative.
    """

    plugin_type: ClassVar[str] = "prefill-backlog-scorer"

    neutral_tokens: int = 512

    def __post_init__(self) -> None:
        if self.neutral_tokens < 0:
            msg = f"neutral_tokens must not be negative, got {self.neutral_tokens}"
            raise ValueError(msg)

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:  # noqa: ARG002 - a backlog is as long for every request
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*."""
        backlogs = [endpoint.in_flight.prefill_backlog_tokens for endpoint in endpoints]
        largest = max(backlogs, default=0.0)
        spread = largest - min(backlogs, default=0.0)
        if spread <= self.neutral_tokens:
            return [1.0] * len(endpoints)
        return [(largest - backlog) / spread for backlog in backlogs]
