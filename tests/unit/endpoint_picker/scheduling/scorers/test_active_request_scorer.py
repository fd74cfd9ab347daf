"""active-request-scorer: idle endpoints score 1, busy ones by their distance to the busiest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.scheduling.scorers.active_request import ActiveRequestScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint


@pytest.mark.parametrize(
    ("scorer", "active", "expected"),
    [
        pytest.param(ActiveRequestScorer(), [0, 2, 8], [1.0, 0.75, 0.0], id="linear"),
        pytest.param(ActiveRequestScorer(), [0, 0], [1.0, 1.0], id="all-idle"),
        pytest.param(ActiveRequestScorer(idle_threshold=2), [1, 2, 4], [1.0, 1.0, 0.0], id="up-to-threshold-is-idle"),
        pytest.param(ActiveRequestScorer(max_busy_score=0.5), [0, 1, 2], [1.0, 0.25, 0.0], id="busy-ceiling"),
        pytest.param(ActiveRequestScorer(), [], [], id="no-candidates"),
    ],
)
def test_score(scorer: ActiveRequestScorer, active: list[int], expected: list[float]) -> None:
    assert scorer.score(REQUEST, [endpoint(requests=count, scraped=False) for count in active]) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"idle_threshold": -1}, id="negative-threshold"),
        pytest.param({"max_busy_score": -0.1}, id="score-below-0"),
        pytest.param({"max_busy_score": 1.1}, id="score-above-1"),
    ],
)
def test_bad_parameter_is_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        ActiveRequestScorer(**parameters)


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1), st.integers(min_value=0, max_value=100))
def test_busier_never_scores_higher(active: list[int], idle_threshold: int) -> None:
    scorer = ActiveRequestScorer(idle_threshold=idle_threshold)
    scores = scorer.score(REQUEST, [endpoint(requests=count) for count in active])
    by_count = [score for _, score in sorted(zip(active, scores, strict=True))]
    assert by_count == sorted(by_count, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in by_count)
