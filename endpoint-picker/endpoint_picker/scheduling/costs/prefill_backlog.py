"""Estimate how long an endpoint needs until it has prefilled this request."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.interfaces import Facts


@dataclass(frozen=True, slots=True)
class PrefillBacklogCost:
    """Seconds until the first token, as far as prefill decides them.

    ::

        seconds = (backlog + own + others * tokens_per_waiting_request) / prefill_tokens_per_second

        backlog  prompt tokens of our in-flight requests that have shown no first token
        own      this request's prompt tokens, without those that the endpoint has cached
        others   waiting requests that are not ours: max(0, corrected waiting queue - our in-flight requests)

    Our own waiting requests are in the backlog already, so only what the queue exceeds our in-flight requests by is
    added; this is the least that others must have sent. Where the queue is unknown, *others* is the median of the
    known ones (0 without any): the ledger still tells endpoints apart, and a missing reading is neither good nor bad.
    So the cost is always known. In a pool of equal endpoints the rate changes no order; it matters where further costs
    are added.

    Attributes:
        prefill_tokens_per_second: Prefill throughput of one endpoint; ValueError unless positive.
        tokens_per_waiting_request: Uncached prompt tokens that another's waiting request stands for; ValueError if
            negative. The default is about the mean prompt of public conversation traces.

    Source: time to first token as queued prefill divided by throughput, as in the llm-d router's affinity filter.
    """

    plugin_type: ClassVar[str] = "prefill-backlog-cost"

    prefill_tokens_per_second: float = 8192.0
    tokens_per_waiting_request: int = 1024

    def __post_init__(self) -> None:
        if self.prefill_tokens_per_second <= 0.0:
            msg = f"prefill_tokens_per_second must be positive, got {self.prefill_tokens_per_second}"
            raise ValueError(msg)
        if self.tokens_per_waiting_request < 0:
            msg = f"tokens_per_waiting_request must not be negative, got {self.tokens_per_waiting_request}"
            raise ValueError(msg)

    def estimate_informed(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts
    ) -> list[float | None]:
        """Return seconds, 0 or more, per endpoint, aligned with *endpoints*; always known."""
        prefix = facts.prefix
        waiting = [_waiting_of_others(endpoint) for endpoint in endpoints]
        assumed = median([others for others in waiting if others is not None] or [0])

        def seconds(endpoint: Endpoint, others: int | None) -> float:
            cached = prefix.matched_tokens(endpoint.address) if prefix else 0
            own = max(0, request.prompt_tokens - cached)
            foreign = (assumed if others is None else others) * self.tokens_per_waiting_request
            return (endpoint.in_flight.prompt_tokens + own + foreign) / self.prefill_tokens_per_second

        return [seconds(endpoint, others) for endpoint, others in zip(endpoints, waiting, strict=True)]


def _waiting_of_others(endpoint: Endpoint) -> int | None:
    queue = endpoint.waiting_queue_size
    return None if queue is None else max(0, queue - endpoint.in_flight.requests)
