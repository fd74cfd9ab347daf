"""Guess from earlier picks how much of a prompt each endpoint has in its prefix cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from xxhash import xxh3_64_intdigest

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.interfaces import NO_FACTS, Facts, PrefixMatch
from endpoint_picker.scheduling.producers.prefix_index import PrefixIndex

BYTES_PER_TOKEN = 4
"""Bytes of prompt text that stand for one token: nothing is tokenised on the request path."""


@dataclass(frozen=True, slots=True)
class ApproxPrefixCacheParameters:
    """Parameters of the approximate prefix cache.

    Attributes:
        block_size_tokens: Tokens per block, best the model server's own KV block size; ValueError unless positive.
        max_prefix_blocks_to_match: Blocks hashed per prompt, which bounds time and memory; ValueError unless positive.
        lru_capacity_per_server: Blocks remembered per endpoint; ValueError unless positive.
    """

    plugin_type: ClassVar[str] = "approx-prefix-cache-producer"

    block_size_tokens: int = 16
    max_prefix_blocks_to_match: int = 256
    lru_capacity_per_server: int = 31_250

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value: int = getattr(self, name)
            if value < 1:
                msg = f"{name} must be positive, got {value}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class ApproxPrefixCacheProducer:
    """Match the prompt's blocks with those of earlier prompts, by the endpoint each was sent to.

    The prompt is cut into blocks of equal size and hashed in a chain that starts with the target model, so equal hashes
    mean equal beginnings for the same model. A trailing partial block is left out, as model servers cache whole blocks
    only. Chance and crafted collisions cost cache hits and nothing else.

    Attributes:
        index: The memory, shared by all decisions and written only by `picked`.
        parameters: Block size and bounds.

    Source: ``approx-prefix-cache-producer`` of the llm-d router.
    """

    plugin_type: ClassVar[str] = ApproxPrefixCacheParameters.plugin_type

    index: PrefixIndex
    parameters: ApproxPrefixCacheParameters = ApproxPrefixCacheParameters()

    def produce(self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts) -> Facts:
        """Return *facts* with the prefix match of the request."""
        block_hashes = self._hash_blocks(request)
        matched = self.index.match(block_hashes, [endpoint.address for endpoint in endpoints])
        prefix = PrefixMatch(block_hashes, self.parameters.block_size_tokens, matched)
        return Facts(prefix) if facts is NO_FACTS else replace(facts, prefix=prefix)

    def picked(self, request: InferenceRequest, endpoint: Endpoint, facts: Facts = NO_FACTS) -> None:
        """Remember that *endpoint* is about to cache the prompt; hashes it anew unless *facts* has the hashes."""
        block_hashes = facts.prefix.block_hashes if facts.prefix else self._hash_blocks(request)
        self.index.record(endpoint.address, block_hashes, self.parameters.lru_capacity_per_server)

    def _hash_blocks(self, request: InferenceRequest) -> tuple[int, ...]:
        prompt = request.prompt
        size = self.parameters.block_size_tokens * BYTES_PER_TOKEN
        end = min(len(prompt) // size, self.parameters.max_prefix_blocks_to_match) * size
        if not end:
            return ()
        digest = xxh3_64_intdigest
        chained = digest(request.target_model)
        return tuple([chained := digest(prompt[start : start + size], chained) for start in range(0, end, size)])
