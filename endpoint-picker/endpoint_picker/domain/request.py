"""A request as scheduling sees it, and the decision made for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What scheduling knows of one request.

    Attributes:
        request_id: The client-visible ``x-request-id``.
        model: Model the client asked for; empty when the request names none.
        target_model: Model or LoRA adapter the model server will be asked for; empty as above.
        headers: Request headers, names lower-case, internal ones removed.
        prompt: Canonical bytes of the prompt for prefix hashing: system and tools first, then messages; may be empty.
        prompt_tokens: Estimate of the prompt's length in tokens, at least 0.
        max_output_tokens: Limit the client set; None: none.
        streaming: Whether the client asked for a stream.
        priority: Higher first; below 0 may be shed.
        subset: Addresses the data plane restricts the choice to (``ip:port``, or a bare IP for all its ports);
            None: no restriction.
    """

    request_id: str = ""
    model: str = ""
    target_model: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    prompt: bytes = b""
    prompt_tokens: int = 0
    max_output_tokens: int | None = None
    streaming: bool = False
    priority: int = 0
    subset: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class PluginScores:
    """What one plugin said of each candidate, aligned with the candidates of the decision.

    Attributes:
        plugin: Name of the plugin.
        weight: Its weight; 0 for a cost.
        values: Scores in [0, 1] or seconds; None where it knew nothing.
    """

    plugin: str
    weight: float
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class SchedulingDecision:
    """Where a request goes and why.

    Attributes:
        addresses: Distinct endpoints, first choice first, never empty.
        profile: Name of the scheduling profile that decided.
        candidates: Addresses that were left after the filters.
        totals: Weighted score (greatest wins) or seconds (least wins) per candidate, aligned with *candidates*.
        explanation: Per plugin, aligned with *candidates*.
        prefix_hit_ratio: Share of the prompt, 0 to 1, that the first choice is believed to have cached; None: unknown.
    """

    addresses: tuple[str, ...]
    profile: str = ""
    candidates: Sequence[str] = ()
    totals: Sequence[float | None] = ()
    explanation: Sequence[PluginScores] = ()
    prefix_hit_ratio: float | None = None
