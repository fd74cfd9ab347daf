"""An endpoint as scheduling sees it: where it is, what it last said of itself, and our own work on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class InFlight(Protocol):
    """This picker's own unfinished work on one endpoint; live values, written by the ledger only."""

    @property
    def requests(self) -> int:
        """Requests picked and not yet completed."""

    @property
    def prompt_tokens(self) -> int:
        """Estimated prompt tokens of those whose first token has not been seen."""

    @property
    def total_tokens(self) -> int:
        """Estimated prompt plus expected output tokens of all of them."""

    @property
    def prefill_backlog_tokens(self) -> float:
        """Prompt tokens the endpoint has presumably yet to compute; drains with time, 0 without requests."""


@dataclass(frozen=True, slots=True)
class NoInFlight:
    """The in-flight work of an endpoint that nothing was ever sent to."""

    requests: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0
    prefill_backlog_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointMetrics:
    """One reading of a model server's metrics page; None is unknown, never zero.

    Attributes:
        engine: ``vllm``, ``sglang``, ``tgi``, ``triton-trtllm``, ``trtllm-serve``, ``llamacpp``; empty: not recognised.
        waiting_queue_size: Requests waiting, summed over data-parallel ranks.
        running_requests: Requests being computed, summed over ranks.
        kv_cache_utilization: Fraction 0 to 1, the fullest rank.
        kv_block_size: Tokens per KV block.
        kv_blocks: Number of KV blocks, per rank.
        max_loras: Adapter slots; None: LoRA is off or unknown.
        running_loras: Adapters in use.
        waiting_loras: Adapters that requests wait for.
        model: Served model as labelled on the page, empty if unknown.
        preemptions: Preempted requests since the start.
        read_at: Clock reading in seconds when the page had arrived.
        in_flight_when_read: Our own in-flight requests at the moment the page was asked for.
    """

    engine: str = ""
    waiting_queue_size: int | None = None
    running_requests: int | None = None
    kv_cache_utilization: float | None = None
    kv_block_size: int | None = None
    kv_blocks: int | None = None
    max_loras: int | None = None
    running_loras: frozenset[str] = frozenset()
    waiting_loras: frozenset[str] = frozenset()
    model: str = ""
    preemptions: int | None = None
    read_at: float = 0.0
    in_flight_when_read: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a pool.

    Attributes:
        address: ``ip:port`` as the data plane dials it; unique within a pool.
        name: Pod name (``-rank-<i>`` with several target ports).
        namespace: Namespace of the pod.
        labels: Pod labels.
        metrics: Last reading; None when there is none or it is stale.
        in_flight: Our own live work on it.
    """

    address: str
    name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics: EndpointMetrics | None = None
    in_flight: InFlight = NoInFlight()

    @property
    def unseen_requests(self) -> int:
        """Requests we placed (positive) or saw end (negative) since the last reading; 0 without one."""
        return self.in_flight.requests - self.metrics.in_flight_when_read if self.metrics else 0

    @property
    def waiting_queue_size(self) -> int | None:
        """Scraped waiting queue, corrected by what we placed or saw end since the reading; None if unknown."""
        metrics = self.metrics
        if metrics is None or metrics.waiting_queue_size is None:
            return None
        return max(0, metrics.waiting_queue_size + self.unseen_requests)
