"""token-load-scorer: the fewer of our tokens in flight, the higher the score."""

import pytest

from endpoint_picker.scheduling.scorers.token_load import TokenLoadScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint


def test_score_falls_to_zero_at_the_threshold() -> None:
    candidates = [endpoint(total_tokens=tokens, scraped=False) for tokens in (0, 250, 1000, 5000)]
    assert TokenLoadScorer(queue_threshold_tokens=1000).score(REQUEST, candidates) == [1.0, 0.75, 0.0, 0.0]


def test_threshold_must_be_positive() -> None:
    with pytest.raises(ValueError, match="queue_threshold_tokens"):
        TokenLoadScorer(queue_threshold_tokens=0)
