"""Profiles: filters, then the weighted mean of known scores or the sum of seconds, then the picker's order."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from random import Random
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.errors import NoReadyEndpoints
from endpoint_picker.domain.request import InferenceRequest, PluginScores
from endpoint_picker.scheduling.filters.label_selector import LabelSelectorFilter
from endpoint_picker.scheduling.interfaces import Facts, PrefixMatch
from endpoint_picker.scheduling.pickers.max_score import MaxScorePicker
from endpoint_picker.scheduling.pickers.parameters import PickerParameters
from endpoint_picker.scheduling.profile import CostProfile, NamedCost, Profile, SchedulingProfile, WeightedScorer
from endpoint_picker.scheduling.scorers.prefix_cache import PrefixCacheScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint, endpoints

PICKER = MaxScorePicker(Random(1), PickerParameters(max_num_of_endpoints=10))
Values = list[float | None]


@dataclass(frozen=True)
class Says:
    """A scorer and a cost that says what it was told to say."""

    plugin_type: ClassVar[str] = "says"
    values: Values

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> Values:
        return self.values

    def estimate(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> Values:
        return self.values


@dataclass(frozen=True)
class SaysTwice:
    """A picker that repeats itself."""

    plugin_type: ClassVar[str] = "says-twice"

    def pick(self, endpoints: Sequence[Endpoint], goodness: Sequence[float]) -> list[Endpoint]:
        return [candidate for candidate, _ in zip(endpoints, goodness, strict=True) for _ in range(2)]


@dataclass(frozen=True)
class InformedSays:
    """A cost that says how many tokens each endpoint has cached."""

    plugin_type: ClassVar[str] = "informed-says"

    def estimate_informed(self, request: InferenceRequest, endpoints: Sequence[Endpoint], facts: Facts) -> Values:
        return [float(facts.prefix.matched_tokens(e.address)) if facts.prefix else None for e in endpoints]


def score_profile(*scorers: tuple[Values, float]) -> Profile:
    weighted = [WeightedScorer(f"s{i}", Says(values), weight) for i, (values, weight) in enumerate(scorers)]
    return SchedulingProfile("scores", filters=(), scorers=weighted, picker=PICKER)


def cost_profile(*costs: Values) -> Profile:
    named = [NamedCost(f"c{i}", Says(values)) for i, values in enumerate(costs)]
    return CostProfile("costs", filters=(), costs=named, picker=PICKER)


def order(profile: Profile, count: int) -> list[int]:
    """Return the numbers of the endpoints, first choice first."""
    decision = profile.schedule(REQUEST, endpoints(count))
    return [decision.candidates.index(address) for address in decision.addresses]


@pytest.mark.parametrize(
    ("scorers", "totals"),
    [
        pytest.param([([1.0, 0.0], 3.0), ([0.0, 1.0], 1.0)], [0.75, 0.25], id="weighted-mean"),
        pytest.param([([0.5, None], 3.0), ([0.1, 0.1], 1.0)], [0.4, 0.1], id="over-what-is-known"),
        pytest.param([([None, 0.4], 1.0)], [None, 0.4], id="nothing-known-has-no-total"),
        pytest.param([([7.0, -7.0], 1.0)], [1.0, 0.0], id="clamped"),
        pytest.param([([nan, inf], 1.0)], [0.0, 1.0], id="not-a-number-is-zero"),
        pytest.param([([1.0, 0.0], 0.0), ([0.2, 0.3], 1.0)], [0.2, 0.3], id="weight-zero-is-off"),
        pytest.param([], [None, None], id="no-scorers"),
    ],
)
def test_totals_of_scores(scorers: list[tuple[Values, float]], totals: Values) -> None:
    decision = score_profile(*scorers).schedule(REQUEST, endpoints(2))
    assert decision.totals == tuple(t if t is None else pytest.approx(t) for t in totals)


def test_greatest_score_wins() -> None:
    assert order(score_profile(([0.2, 0.9, 0.5], 1.0)), 3) == [1, 2, 0]


def test_endpoint_of_which_nothing_is_known_stands_in_the_middle() -> None:
    assert order(score_profile(([0.2, None, 0.9], 1.0)), 3) == [2, 1, 0]


def test_where_nothing_is_known_of_any_all_are_chosen_alike() -> None:
    profile = score_profile(([None, None, None], 1.0))
    assert {order(profile, 3)[0] for _ in range(100)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("costs", "totals", "ranking"),
    [
        pytest.param([[1.0, 3.0, 2.0]], [1.0, 3.0, 2.0], [0, 2, 1], id="least-wins"),
        pytest.param([[1.0, 3.0, 0.0], [5.0, 1.0, 9.0]], [6.0, 4.0, 9.0], [1, 0, 2], id="summed"),
        pytest.param([[1.0, None, 3.0]], [1.0, None, 3.0], [0, 1, 2], id="unknown-is-the-median"),
        pytest.param([[1.0, None, 3.0], [4.0, 0.5, 0.0]], [5.0, 2.5, 3.0], [1, 2, 0], id="median-of-one-cost"),
        pytest.param([[None, None], [2.0, 1.0]], [2.0, 1.0], [1, 0], id="cost-that-knows-none-adds-nothing"),
        pytest.param([[-5.0, 1.0]], [0.0, 1.0], [0, 1], id="negative-is-zero"),
        pytest.param([[nan, 1.0, 3.0]], [None, 1.0, 3.0], [1, 0, 2], id="not-a-number-is-unknown"),
        pytest.param([[inf, 1.0]], [inf, 1.0], [1, 0], id="infinite-is-last"),
    ],
)
def test_seconds(costs: list[Values], totals: Values, ranking: list[int]) -> None:
    profile = cost_profile(*costs)
    assert profile.schedule(REQUEST, endpoints(len(totals))).totals == tuple(totals)
    assert order(profile, len(totals)) == ranking


@pytest.mark.parametrize("profile", [score_profile(([0.5], 1.0)), cost_profile([0.5])], ids=["scores", "costs"])
def test_plugin_that_answers_for_other_endpoints_is_a_defect(profile: Profile) -> None:
    with pytest.raises(ValueError, match="1 values for 2 candidates"):
        profile.schedule(REQUEST, endpoints(2))


def test_decision_explains_itself() -> None:
    decision = score_profile(([1.0, 0.0], 2.0), ([None, 0.5], 1.0)).schedule(REQUEST, endpoints(2))
    assert decision.profile == "scores"
    assert decision.candidates == ("10.0.0.1:8000", "10.0.0.2:8000")
    said = [PluginScores("s0", 2.0, (1.0, 0.0)), PluginScores("s1", 1.0, (None, 0.5))]
    assert list(decision.explanation) == said
    assert (len(decision.explanation), decision.explanation[-1], list(decision.explanation[1:])) == (
        2,
        said[1],
        said[1:],
    )
    costs = cost_profile([1.0, 2.0]).schedule(REQUEST, endpoints(2))
    assert (costs.profile, list(costs.explanation)) == ("costs", [PluginScores("c0", 0.0, (1.0, 2.0))])


def test_explanation_has_the_scores_that_counted_and_leaves_the_scorers_list_alone() -> None:
    said: Values = [7.0, nan]
    decision = score_profile((said, 1.0)).schedule(REQUEST, endpoints(2))
    assert decision.explanation[0].values == (1.0, 0.0)
    assert said[0] == 7.0


def test_informed_plugins_get_the_facts() -> None:
    facts = Facts(PrefixMatch((1, 2), 16, {"10.0.0.2:8000": 1}))
    scorer = WeightedScorer("prefix-cache-scorer", PrefixCacheScorer())
    scores = SchedulingProfile("s", filters=(), scorers=[scorer], picker=PICKER)
    costs = CostProfile("c", filters=(), costs=[NamedCost("informed-says", InformedSays())], picker=PICKER)
    assert scores.schedule(REQUEST, endpoints(2), facts).totals == (0.0, 0.5)
    assert scores.schedule(REQUEST, endpoints(2)).totals == (None, None)
    assert costs.schedule(REQUEST, endpoints(2), facts).totals == (0.0, 16.0)


def test_filters_decide_who_is_a_candidate() -> None:
    candidates = [endpoint("a:1", labels={"x": "1"}), endpoint("b:1", labels={"x": "1", "y": "1"}), endpoint("c:1")]
    filters = [LabelSelectorFilter({"x": "1"}), LabelSelectorFilter({"y": "1"})]
    profile = SchedulingProfile("s", filters=filters, scorers=(), picker=PICKER)
    assert profile.schedule(REQUEST, candidates).candidates == ("b:1",)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        pytest.param([], "no ready endpoint", id="empty-pool"),
        pytest.param(endpoints(2), "none of 2 ready endpoints is left after label-selector-filter", id="all-filtered"),
    ],
)
def test_no_candidate_is_an_error(candidates: list[Endpoint], message: str) -> None:
    filters = [LabelSelectorFilter({"x": "1"})]
    for profile in (
        SchedulingProfile("s", filters=filters, scorers=(), picker=PICKER),
        CostProfile("c", filters=filters, costs=(), picker=PICKER),
    ):
        with pytest.raises(NoReadyEndpoints, match=message):
            profile.schedule(REQUEST, candidates)


def test_addresses_are_distinct_whatever_the_picker_says() -> None:
    profile = SchedulingProfile("s", filters=(), scorers=(), picker=SaysTwice())
    assert profile.schedule(REQUEST, endpoints(2)).addresses == ("10.0.0.1:8000", "10.0.0.2:8000")


@pytest.mark.parametrize("weight", [-1.0, inf, nan])
def test_impossible_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        WeightedScorer("s", Says([]), weight)


UNKNOWN_OR_SCORE = st.none() | st.floats(min_value=0.0, max_value=1.0)


@given(st.data(), st.integers(min_value=1, max_value=6), st.integers(min_value=1, max_value=4))
def test_totals_are_scores_again(data: st.DataObject, count: int, scorers: int) -> None:
    said = [data.draw(st.lists(UNKNOWN_OR_SCORE, min_size=count, max_size=count)) for _ in range(scorers)]
    weights = [data.draw(st.floats(min_value=0.0, max_value=100.0)) for _ in range(scorers)]
    decision = score_profile(*zip(said, weights, strict=True)).schedule(REQUEST, endpoints(count))
    assert all(total is None or -1e-9 <= total <= 1.0 + 1e-9 for total in decision.totals)
    assert len(set(decision.addresses)) == len(decision.addresses) == count
