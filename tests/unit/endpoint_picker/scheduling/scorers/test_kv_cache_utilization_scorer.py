"""kv-cache-utilization-scorer: the free fraction is the score."""

from endpoint_picker.scheduling.interfaces import Scorer
from endpoint_picker.scheduling.scorers.kv_cache_utilization import KvCacheUtilizationScorer
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint

SCORER: Scorer = KvCacheUtilizationScorer()


def test_free_fraction_is_the_score_and_unknown_stays_unknown() -> None:
    candidates = [
        endpoint(kv_cache_utilization=0.0),
        endpoint(kv_cache_utilization=0.25),
        endpoint(kv_cache_utilization=1.0),
        endpoint(kv_cache_utilization=None),
        endpoint(scraped=False),
    ]
    assert SCORER.score(REQUEST, candidates) == [1.0, 0.75, 0.0, None, None]
