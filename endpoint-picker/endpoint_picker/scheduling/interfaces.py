"""What a scheduling plugin is: Protocols only. A plugin subclasses nothing and mutates nothing it is given.

One decision runs in this order::

    producers -> Facts -> filters -> scorers or costs -> picker -> PickObserver.picked

What several plugins need to know of one request (today: how much of its prompt each endpoint has cached) is worked out
once per decision by a `Producer` and handed on as `Facts`. Plain scorers and costs never see it. One that needs it
has `score_informed` or `estimate_informed` in place of the plain method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@runtime_checkable
class Filter(Protocol):
    """Keeps some of the candidates, in their order."""

    plugin_type: ClassVar[str]

    def filter(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Return the endpoints that may serve the request."""


@runtime_checkable
class Scorer(Protocol):
    """Scores candidates; more is better."""

    plugin_type: ClassVar[str]

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*; None where nothing is known."""


@runtime_checkable
class Cost(Protocol):
    """Prices candidates in seconds; less is better."""

    plugin_type: ClassVar[str]

    def estimate(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:
        """Return seconds, 0 or more, per endpoint, aligned with *endpoints*; None where nothing is known."""


class Picker(Protocol):
    """Orders the scored candidates."""

    plugin_type: ClassVar[str]

    def pick(self, endpoints: Sequence[Endpoint], goodness: Sequence[float]) -> list[Endpoint]:
        """Return distinct endpoints, first choice first; as many as configured, all if there are fewer.

        *goodness* is aligned with *endpoints*: a weighted score, or minus the seconds; the greatest is best.
        """


class PickObserver(Protocol):
    """A plugin that remembers: told of every pick, after it was made."""

    def picked(self, request: InferenceRequest, endpoint: Endpoint) -> None:
        """Learn that *endpoint* will serve the request."""


class RandomSource(Protocol):
    """Where plugins take chance from; a ``random.Random`` is one."""

    def random(self) -> float:
        """Return a uniform number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """How much of one prompt each endpoint is believed to hold in its prefix cache.

    Attributes:
        block_hashes: Chained hashes of the prompt's blocks, first block first; the parts compared.
        block_tokens: Estimated tokens per block.
        matched_blocks: Leading blocks found, by address; an address that is absent matched nothing.
    """

    block_hashes: tuple[int, ...] = field(repr=False)
    block_tokens: int
    matched_blocks: Mapping[str, int]

    @property
    def total_blocks(self) -> int:
        """Blocks that were compared; 0 for a prompt shorter than one block."""
        return len(self.block_hashes)

    def matched_tokens(self, address: str) -> int:
        """Return the estimated prompt tokens that *address* has cached."""
        return self.matched_blocks.get(address, 0) * self.block_tokens


@dataclass(frozen=True, slots=True)
class Facts:
    """What producers found out about one request.

    Attributes:
        prefix: Prefix-cache match; None: nobody looked.
    """

    prefix: PrefixMatch | None = None


NO_FACTS = Facts()


class Producer(Protocol):
    """Works out facts that several plugins share, and learns from picks; its memory is a state object from wiring."""

    plugin_type: ClassVar[str]

    def produce(self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts) -> Facts:
        """Return *facts* completed by this producer's own; changes nothing."""

    def picked(self, request: InferenceRequest, endpoint: Endpoint, facts: Facts = NO_FACTS) -> None:
        """Learn that *endpoint* will serve the request; *facts* are those of its decision, if still at hand."""


@runtime_checkable
class InformedScorer(Protocol):
    """A scorer that also looks at facts."""

    plugin_type: ClassVar[str]

    def score_informed(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts
    ) -> list[float | None]:
        """Return what `Scorer.score` returns."""


@runtime_checkable
class InformedCost(Protocol):
    """A cost that also looks at facts."""

    plugin_type: ClassVar[str]

    def estimate_informed(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts
    ) -> list[float | None]:
        """Return what `Cost.estimate` returns."""
