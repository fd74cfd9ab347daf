"""prefix-cache-scorer: the larger the cached part of the prompt, the higher the score."""

import pytest

from endpoint_picker.scheduling.interfaces import NO_FACTS, Facts, InformedScorer, PrefixMatch
from endpoint_picker.scheduling.scorers.prefix_cache import PrefixCacheScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint

SCORER: InformedScorer = PrefixCacheScorer()
CANDIDATES = [endpoint("a:1"), endpoint("b:1"), endpoint("c:1")]
MATCH = Facts(PrefixMatch(tuple(range(8)), 16, {"a:1": 8, "b:1": 2}))


def test_score_is_the_matched_fraction() -> None:
    assert SCORER.score_informed(REQUEST, CANDIDATES, MATCH) == [1.0, 0.25, 0.0]


@pytest.mark.parametrize(
    "facts",
    [pytest.param(NO_FACTS, id="nobody-looked"), pytest.param(Facts(PrefixMatch((), 16, {})), id="prompt-too-short")],
)
def test_without_blocks_nothing_is_known(facts: Facts) -> None:
    assert SCORER.score_informed(REQUEST, CANDIDATES, facts) == [None, None, None]


def test_absolute_length_can_be_mixed_in() -> None:
    scorer = PrefixCacheScorer(match_length_weight=0.5, match_length_scale_tokens=64)
    # a: 128 tokens, beyond the scale; b: 32 of 64 tokens, squared
    assert scorer.score_informed(REQUEST, CANDIDATES, MATCH) == [1.0, 0.5 * 0.25 + 0.5 * 0.25, 0.0]


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"match_length_weight": -0.1}, id="weight-below-0"),
        pytest.param({"match_length_weight": 1.1}, id="weight-above-1"),
        pytest.param({"match_length_scale_tokens": 0}, id="scale"),
    ],
)
def test_bad_parameter_is_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        PrefixCacheScorer(**parameters)
