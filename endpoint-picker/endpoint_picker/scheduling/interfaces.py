"""What a scheduling plugin is: Protocols only. A plugin subclasses nothing and mutates nothing it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


class Filter(Protocol):
    """Keeps some of the candidates, in their order."""

    plugin_type: ClassVar[str]

    def filter(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Return the endpoints that may serve the request."""


class Scorer(Protocol):
    """Scores candidates; more is better."""

    plugin_type: ClassVar[str]

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*; None where nothing is known."""


class Cost(Protocol):
    """Prices candidates in seconds; less is better."""

    plugin_type: ClassVar[str]

    def estimate(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:
        """Return seconds, 0 or more, per endpoint, aligned with *endpoints*; None where nothing is known."""


@dataclass(frozen=True, slots=True)
class RankedEndpoint:
    """A candidate with its goodness: a weighted score, or minus the seconds; the greatest is best."""

    endpoint: Endpoint
    goodness: float


class Picker(Protocol):
    """Orders the scored candidates."""

    plugin_type: ClassVar[str]

    def pick(self, ranked: Sequence[RankedEndpoint]) -> list[Endpoint]:
        """Return distinct endpoints, first choice first; as many as configured, all if there are fewer."""


class PickObserver(Protocol):
    """A plugin that remembers: told of every pick, after it was made."""

    def picked(self, request: InferenceRequest, endpoint: Endpoint) -> None:
        """Learn that *endpoint* will serve the request."""


