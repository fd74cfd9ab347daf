"""Prefer endpoints that have the beginning of the prompt in their prefix cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.interfaces import Facts


@dataclass(frozen=True, slots=True)
class PrefixCacheScorer:
    """Score the matched fraction of the prompt's blocks, optionally mixed with the match's absolute length.

    With weight ``w`` the score is ``w * min(1, tokens / scale)**2 + (1 - w) * matched / total``: of two full matches
    the longer one saves more prefill. Unknown for all where nobody looked or the prompt is shorter than one block.

    Attributes:
        match_length_weight: Share of the absolute length, 0 to 1, else ValueError.
        match_length_scale_tokens: Matched tokens that count as much as any; ValueError unless positive.

    Source: ``prefix-cache-scorer`` of the llm-d router.
    """

    plugin_type: ClassVar[str] = "prefix-cache-scorer"

    match_length_weight: float = 0.0
    match_length_scale_tokens: int = 8192

    def __post_init__(self) -> None:
        if not 0.0 <= self.match_length_weight <= 1.0:
            msg = f"match_length_weight must be between 0 and 1, got {self.match_length_weight}"
            raise ValueError(msg)
        if self.match_length_scale_tokens <= 0:
            msg = f"match_length_scale_tokens must be positive, got {self.match_length_scale_tokens}"
            raise ValueError(msg)

    def score_informed(
        self,
        request: InferenceRequest,  # noqa: ARG002 - the facts are already about the request
        endpoints: Sequence[Endpoint],
        facts: Facts,
    ) -> list[float | None]:
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*; all None without a match to compare."""
        prefix = facts.prefix
        if prefix is None or not prefix.block_hashes:
            return [None] * len(endpoints)
        if not prefix.matched_blocks:
            return [0.0] * len(endpoints)
        total = prefix.total_blocks
        matched_blocks = prefix.matched_blocks.get
        matched = [matched_blocks(endpoint.address, 0) for endpoint in endpoints]
        length_share = self.match_length_weight
        if not length_share:
            return [blocks / total for blocks in matched]
        scale = prefix.block_tokens / self.match_length_scale_tokens
        return [
            length_share * min(1.0, blocks * scale) ** 2 + (1.0 - length_share) * blocks / total for blocks in matched
        ]
