"""Scheduling profiles: filters, then weighted scores or summed seconds, then a picker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol, TypeAlias, overload

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.errors import NoReadyEndpoints
from endpoint_picker.domain.request import InferenceRequest, PluginScores, SchedulingDecision
from endpoint_picker.scheduling.interfaces import (
    NO_FACTS,
    Cost,
    Facts,
    Filter,
    InformedCost,
    InformedScorer,
    Picker,
    Scorer,
)

NEUTRAL_SCORE = 0.5
"""Score of every candidate when no scorer knows anything of any of them."""

_Values: TypeAlias = list[float | None]
_Judge: TypeAlias = Callable[[InferenceRequest, Sequence[Endpoint], Facts], _Values]


class Profile(Protocol):
    """Decides where a request goes."""

    @property
    def name(self) -> str:
        """Name of the profile."""

    def schedule(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts = NO_FACTS
    ) -> SchedulingDecision:
        """Return an ordered list of distinct endpoints; NoReadyEndpoints when no candidate is left. Changes nothing."""


@dataclass(frozen=True, slots=True)
class WeightedScorer:
    """A scorer in a profile.

    Attributes:
        name: Name of the plugin, for explanations.
        scorer: The scorer.
        weight: Its pull relative to the others, at least 0, else ValueError; 0 switches it off.
    """

    name: str
    scorer: Scorer | InformedScorer
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight < float("inf"):
            msg = f"weight must be a number of at least 0, got {self.weight}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class NamedCost:
    """A cost in a profile, with the name of the plugin for explanations."""

    name: str
    cost: Cost | InformedCost


class Explanation(Sequence[PluginScores]):
    """What each plugin said, put into words only when somebody reads it: few decisions are looked at.

    Args:
        weights: Name and weight of each plugin.
        rows: What each said, aligned with *weights*; not written to any more.
    """

    __slots__ = ("_rows", "_weights")

    def __init__(self, weights: Sequence[tuple[str, float]], rows: Sequence[_Values]) -> None:
        self._weights = weights
        self._rows = rows

    def __len__(self) -> int:
        """Return the number of plugins."""
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> PluginScores: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[PluginScores]: ...

    def __getitem__(self, place: int | slice) -> PluginScores | Sequence[PluginScores]:
        """Return what one plugin said, or what some did."""
        if isinstance(place, slice):
            return Explanation(self._weights[place], self._rows[place])
        name, weight = self._weights[place]
        return PluginScores(name, weight, tuple(self._rows[place]))


class SchedulingProfile:
    """Weighs scores; the greatest total wins.

    Every score is clamped to [0, 1] (not-a-number counts as 0). A candidate's total is the weighted mean over the
    scorers that know it, ``sum(w * s) / sum(w)``: a metric that a model server does not have neither helps nor harms
    it. A candidate that no scorer knows gets the mean total of the known ones (0.5 if there are none): it never comes
    before every known candidate nor behind every one, unless all are equal, so an endpoint that has not been scraped
    yet is neither flooded nor starved.
    """

    __slots__ = ("_filters", "_judges", "_picker", "_weights", "name")

    def __init__(
        self, name: str, *, filters: Sequence[Filter], scorers: Sequence[WeightedScorer], picker: Picker
    ) -> None:
        self.name = name
        self._filters = tuple(filters)
        active = [weighted for weighted in scorers if weighted.weight > 0.0]
        self._weights = tuple((weighted.name, weighted.weight) for weighted in active)
        self._judges = tuple(_score_judge(weighted.scorer) for weighted in active)
        self._picker = picker

    def schedule(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts = NO_FACTS
    ) -> SchedulingDecision:
        """Return the best endpoints; NoReadyEndpoints when no candidate is left."""
        candidates = _filtered(self._filters, request, endpoints)
        count = len(candidates)
        sums = [0.0] * count
        known_weights = [0.0] * count
        rows: list[_Values] = []
        for (name, weight), judge in zip(self._weights, self._judges, strict=True):
            scores = list(judge(request, candidates, facts))
            _check_length(name, scores, count)
            rows.append(scores)
            for place, said in enumerate(scores):
                if said is not None:
                    score = said if 0.0 <= said <= 1.0 else _clamp(said)
                    scores[place] = score
                    sums[place] += weight * score
                    known_weights[place] += weight
        totals = tuple([total / weight if weight else None for total, weight in zip(sums, known_weights, strict=True)])
        goodness = [total for total in totals if total is not None]
        if len(goodness) < count:
            neutral = sum(goodness) / len(goodness) if goodness else NEUTRAL_SCORE
            goodness = [neutral if total is None else total for total in totals]
        return _decide(self.name, self._picker, candidates, goodness, totals, Explanation(self._weights, rows), facts)


class CostProfile:
    """Adds up seconds; the least total wins.

    Seconds below 0 count as 0, not-a-number as unknown. Where one cost does not know a candidate, the median of what it
    says of the others stands in (0 if it knows none). A candidate that no cost knows has no total of its own, but is
    ranked by those medians: in the middle.
    """

    __slots__ = ("_filters", "_judges", "_picker", "_weights", "name")

    def __init__(self, name: str, *, filters: Sequence[Filter], costs: Sequence[NamedCost], picker: Picker) -> None:
        self.name = name
        self._filters = tuple(filters)
        self._weights = tuple((named.name, 0.0) for named in costs)
        self._judges = tuple(_cost_judge(named.cost) for named in costs)
        self._picker = picker

    def schedule(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts = NO_FACTS
    ) -> SchedulingDecision:
        """Return the cheapest endpoints; NoReadyEndpoints when no candidate is left."""
        candidates = _filtered(self._filters, request, endpoints)
        count = len(candidates)
        sums = [0.0] * count
        is_known = [False] * count
        rows: list[_Values] = []
        for (name, _), judge in zip(self._weights, self._judges, strict=True):
            seconds = [_at_least_zero(value) for value in judge(request, candidates, facts)]
            _check_length(name, seconds, count)
            rows.append(seconds)
            known = [value for value in seconds if value is not None]
            stand_in = median(known) if known else 0.0
            for place, value in enumerate(seconds):
                sums[place] += stand_in if value is None else value
                is_known[place] |= value is not None
        totals = tuple([total if known else None for total, known in zip(sums, is_known, strict=True)])
        goodness = [-total for total in sums]
        return _decide(self.name, self._picker, candidates, goodness, totals, Explanation(self._weights, rows), facts)


def _score_judge(scorer: Scorer | InformedScorer) -> _Judge:
    if isinstance(scorer, InformedScorer):
        return scorer.score_informed
    score = scorer.score
    return lambda request, endpoints, _facts: score(request, endpoints)


def _cost_judge(cost: Cost | InformedCost) -> _Judge:
    if isinstance(cost, InformedCost):
        return cost.estimate_informed
    estimate = cost.estimate
    return lambda request, endpoints, _facts: estimate(request, endpoints)


def _filtered(
    filters: Sequence[Filter], request: InferenceRequest, endpoints: Sequence[Endpoint]
) -> Sequence[Endpoint]:
    if not endpoints:
        msg = "the pool has no ready endpoint"
        raise NoReadyEndpoints(msg)
    candidates = endpoints
    for plugin in filters:
        candidates = plugin.filter(request, candidates)
        if not candidates:
            msg = f"none of {len(endpoints)} ready endpoints is left after {plugin.plugin_type}"
            raise NoReadyEndpoints(msg)
    return candidates


def _clamp(score: float) -> float:
    return min(1.0, max(0.0, score))  # in this order not-a-number gives 0


def _at_least_zero(seconds: float | None) -> float | None:
    if seconds is None or seconds != seconds:  # noqa: PLR0124 - only not-a-number differs from itself
        return None
    return max(0.0, seconds)


def _check_length(name: str, values: Sequence[float | None], count: int) -> None:
    if len(values) != count:
        msg = f"plugin {name} returned {len(values)} values for {count} candidates"
        raise ValueError(msg)


def _decide(
    name: str,
    picker: Picker,
    candidates: Sequence[Endpoint],
    goodness: Sequence[float],
    totals: tuple[float | None, ...],
    explanation: Explanation,
    facts: Facts,
) -> SchedulingDecision:
    addresses = tuple(dict.fromkeys([endpoint.address for endpoint in picker.pick(candidates, goodness)]))
    prefix = facts.prefix
    return SchedulingDecision(
        addresses=addresses,
        profile=name,
        candidates=tuple([endpoint.address for endpoint in candidates]),
        totals=totals,
        explanation=explanation,
        prefix_hit_ratio=prefix.matched_blocks.get(addresses[0], 0) / prefix.total_blocks
        if prefix is not None and prefix.block_hashes
        else None,
    )
