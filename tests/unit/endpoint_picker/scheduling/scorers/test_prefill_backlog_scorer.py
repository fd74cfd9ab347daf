"""prefill-backlog-scorer: the less there is left to prefill, the higher the score; small differences are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.scheduling.interfaces import Scorer
from endpoint_picker.scheduling.scorers.prefill_backlog import PrefillBacklogScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint

SCORER: Scorer = PrefillBacklogScorer()


@pytest.mark.parametrize(
    ("backlogs", "expected"),
    [
        pytest.param([1000.0, 3000.0, 5000.0], [1.0, 0.5, 0.0], id="linear"),
        pytest.param([900.0, 900.0], [1.0, 1.0], id="equal"),
        pytest.param([512.0, 0.0], [1.0, 1.0], id="within-the-tolerance"),
        pytest.param([513.0, 0.0], [0.0, 1.0], id="beyond-the-tolerance"),
        pytest.param([], [], id="no-candidates"),
    ],
)
def test_score(backlogs: list[float], expected: list[float]) -> None:
    assert SCORER.score(REQUEST, [endpoint(prefill_backlog_tokens=tokens) for tokens in backlogs]) == expected


def test_scores_without_a_reading() -> None:
    candidates = [endpoint(prefill_backlog_tokens=800.0, scraped=False), endpoint(scraped=False)]
    assert SCORER.score(REQUEST, candidates) == [0.0, 1.0]


def test_tolerance_can_be_switched_off() -> None:
    candidates = [endpoint(prefill_backlog_tokens=1.0), endpoint()]
    assert PrefillBacklogScorer(neutral_tokens=0).score(REQUEST, candidates) == [0.0, 1.0]


def test_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="neutral_tokens"):
        PrefillBacklogScorer(neutral_tokens=-1)


@given(st.lists(st.floats(min_value=0.0, max_value=1e9), min_size=1))
def test_larger_backlog_never_scores_higher(backlogs: list[float]) -> None:
    scores = SCORER.score(REQUEST, [endpoint(prefill_backlog_tokens=tokens) for tokens in backlogs])
    assert all(score is not None and 0.0 <= score <= 1.0 for score in scores)
    by_backlog = [score for _, score in sorted(zip(backlogs, scores, strict=True), key=lambda pair: pair[0])]
    assert by_backlog == sorted(by_backlog, reverse=True)
