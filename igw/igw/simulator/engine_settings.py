"""Sizes and rules of a simulated engine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Sizes and rules of an engine; ValueError where one makes no sense.

    Attributes:
        max_num_seqs: Most sequences that run at once.
        max_num_batched_tokens: Token budget of a step; prefills are cut to it (chunked prefill).
        num_blocks: KV blocks, the reserved null block included.
        block_size: Tokens per block.
        max_queued_requests: Bound of the waiting queue; None: unbounded.
        priority_scheduling: Order and preempt by priority instead of arrival.
        prefix_caching: Whether full blocks are shared and kept.
        max_loras: LoRA adapters that fit at once.
        lora_load_seconds: What bringing one in adds to a step.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    num_blocks: int = 26_800
    block_size: int = 16
    max_queued_requests: int | None = None
    priority_scheduling: bool = False
    prefix_caching: bool = True
    max_loras: int = 4
    lora_load_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.max_num_batched_tokens < 1:
            msg = f"an engine needs sequences and tokens, got {self.max_num_seqs} and {self.max_num_batched_tokens}"
            raise ValueError(msg)
        if self.max_queued_requests is not None and self.max_queued_requests < 0:
            msg = f"max_queued_requests must not be negative, got {self.max_queued_requests}"
            raise ValueError(msg)

    @property
    def capacity_tokens(self) -> int:
        """Tokens of KV that sequences can hold."""
        return (self.num_blocks - 1) * self.block_size
