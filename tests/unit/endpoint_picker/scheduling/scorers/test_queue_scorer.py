"""queue-scorer: the shorter the waiting queue, the higher the score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.scheduling.interfaces import Scorer
from endpoint_picker.scheduling.scorers.queue import QueueScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint

SCORER: Scorer = QueueScorer()


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        pytest.param([2, 6, 10], [1.0, 0.5, 0.0], id="linear"),
        pytest.param([4, 4], [1.0, 1.0], id="equal-queues-are-neutral"),
        pytest.param([3, None], [1.0, None], id="unscraped-stays-unknown"),
        pytest.param([], [], id="no-candidates"),
    ],
)
def test_score(queues: list[int | None], expected: list[float | None]) -> None:
    assert SCORER.score(REQUEST, [endpoint(waiting_queue_size=q) for q in queues]) == expected


def test_pick_since_the_reading_counts_as_waiting() -> None:
    fresh = endpoint(waiting_queue_size=0, requests=3, in_flight_when_read=0)
    assert SCORER.score(REQUEST, [fresh, endpoint(waiting_queue_size=0)]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("queue", "expected"),
    [pytest.param(4, [1.0, 1.0], id="within-the-spread"), pytest.param(5, [0.0, 1.0], id="beyond-the-spread")],
)
def test_small_differences_can_be_neutral(queue: int, expected: list[float]) -> None:
    candidates = [endpoint(waiting_queue_size=queue), endpoint(waiting_queue_size=0)]
    assert QueueScorer(neutral_spread=4).score(REQUEST, candidates) == expected


@given(st.lists(st.tuples(*[st.integers(min_value=0, max_value=20)] * 3), min_size=1))
def test_queue_is_the_corrected_one_of_the_endpoint(readings: list[tuple[int, int, int]]) -> None:
    candidates = [
        endpoint(waiting_queue_size=waiting, requests=requests, in_flight_when_read=when_read)
        for waiting, requests, when_read in readings
    ]
    corrected = [endpoint(waiting_queue_size=candidate.waiting_queue_size) for candidate in candidates]
    assert SCORER.score(REQUEST, candidates) == SCORER.score(REQUEST, corrected)


def test_negative_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="neutral_spread"):
        QueueScorer(neutral_spread=-1)


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1))
def test_longer_queue_never_scores_higher(queues: list[int]) -> None:
    scores = SCORER.score(REQUEST, [endpoint(waiting_queue_size=q) for q in queues])
    by_queue = [score for _, score in sorted(zip(queues, scores, strict=True))]
    assert by_queue == sorted(by_queue, reverse=True)
