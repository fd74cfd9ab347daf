"""A sequence in a simulated engine: what was asked for and how far it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """One sequence to generate.

    Attributes:
        sequence_id: Unique among the live sequences of an engine.
        prompt_tokens: At least 1.
        output_tokens: Tokens to emit; 0 ends with the prefill (embeddings).
        block_hashes: Content hash of each full block of prompt and output in order, each depending on all before it;
            where it is shorter than the sequence, the rest is not shared.
        adapter: LoRA adapter; None: the base model.
        priority: Lower is sooner; only a priority scheduler looks at it.
    """

    sequence_id: int
    prompt_tokens: int
    output_tokens: int
    block_hashes: Sequence[int] = ()
    adapter: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 0:
            msg = f"a sequence needs a prompt, got {self.prompt_tokens} tokens in and {self.output_tokens} out"
            raise ValueError(msg)


@dataclass(slots=True, eq=False)
class SequenceState:
    """Progress of one sequence; written by the engine only.

    Attributes:
        request: What was asked for.
        order: Arrival order within the engine.
        priority: Rank in the queue: the request's priority, or 0 for all where arrival alone decides.
        tokens: Prompt and emitted tokens together.
        computed: Tokens whose KV exists, cached ones included.
        emitted: Output tokens so far.
        cached_tokens: Prompt tokens found in the prefix cache at first admission; None before it.
        preemptions: Times its KV was taken away.
        blocks: KV blocks held, in order.
        registered: How many of them are findable by content.
        live: False once finished or aborted.
    """

    request: SequenceRequest
    order: int
    priority: int
    tokens: int
    computed: int = 0
    emitted: int = 0
    cached_tokens: int | None = None
    preemptions: int = 0
    blocks: list[int] = field(default_factory=list)
    registered: int = 0
    live: bool = True
