"""load-aware-scorer: at most half a point, falling with the waiting queue."""

import pytest

from endpoint_picker.scheduling.scorers.load_aware import LoadAwareScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint


def test_score_falls_to_zero_at_the_threshold_and_unknown_stays_unknown() -> None:
    candidates = [endpoint(waiting_queue_size=queue) for queue in (0, 32, 128, 500, None)]
    assert LoadAwareScorer().score(REQUEST, candidates) == [0.5, 0.375, 0.0, 0.0, None]


def test_threshold_must_be_positive() -> None:
    with pytest.raises(ValueError, match="threshold"):
        LoadAwareScorer(threshold=0)
