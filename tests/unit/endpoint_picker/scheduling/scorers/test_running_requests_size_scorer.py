"""running-requests-size-scorer: the fewer requests run, the higher the score."""

import pytest

from endpoint_picker.scheduling.interfaces import Scorer
from endpoint_picker.scheduling.scorers.running_requests_size import RunningRequestsSizeScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint

SCORER: Scorer = RunningRequestsSizeScorer()


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        pytest.param([2, 6, 10], [1.0, 0.5, 0.0], id="linear"),
        pytest.param([4, 4], [1.0, 1.0], id="equal-numbers-are-neutral"),
        pytest.param([3, None], [1.0, None], id="unknown-stays-unknown"),
        pytest.param([], [], id="no-candidates"),
    ],
)
def test_score(running: list[int | None], expected: list[float | None]) -> None:
    assert SCORER.score(REQUEST, [endpoint(running_requests=r) for r in running]) == expected


def test_unscraped_endpoint_is_unknown() -> None:
    assert SCORER.score(REQUEST, [endpoint(scraped=False, requests=5)]) == [None]


def test_pick_since_the_reading_counts_as_running() -> None:
    fresh = endpoint(running_requests=1, requests=4, in_flight_when_read=0)
    assert SCORER.score(REQUEST, [fresh, endpoint(running_requests=3)]) == [0.0, 1.0]


def test_more_ended_than_ran_is_zero() -> None:
    drained = endpoint(running_requests=1, requests=0, in_flight_when_read=9)
    assert SCORER.score(REQUEST, [drained, endpoint(running_requests=0)]) == [1.0, 1.0]
