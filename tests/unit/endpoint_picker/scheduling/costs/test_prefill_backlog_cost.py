"""prefill-backlog-cost: seconds until the prompt is computed: our backlog, its uncached part, the queue of others."""

import pytest

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.costs.prefill_backlog import PrefillBacklogCost
from endpoint_picker.scheduling.interfaces import NO_FACTS, Facts, InformedCost, PrefixMatch
from unit.endpoint_picker.scheduling.building import endpoint

COST: InformedCost = PrefillBacklogCost(prefill_tokens_per_second=1000.0, tokens_per_waiting_request=500)
REQUEST = InferenceRequest(prompt_tokens=2000)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        pytest.param([endpoint()], [2.0], id="idle-is-the-own-prompt"),
        pytest.param([endpoint(prompt_tokens=3000, requests=1)], [5.0], id="our-backlog"),
        pytest.param([endpoint(waiting_queue_size=4)], [4.0], id="queue-of-others"),
        pytest.param([endpoint(waiting_queue_size=4, requests=3)], [2.5], id="our-waiting-requests-are-in-the-backlog"),
        pytest.param([endpoint(waiting_queue_size=1, requests=3)], [2.0], id="queue-may-be-all-ours"),
        pytest.param(
            [endpoint(waiting_queue_size=2), endpoint(waiting_queue_size=6), endpoint(scraped=False)],
            [3.0, 5.0, 4.0],
            id="unknown-queue-is-the-median",
        ),
        pytest.param(
            [endpoint(scraped=False, prompt_tokens=1000, requests=1), endpoint(scraped=False)],
            [3.0, 2.0],
            id="without-readings-the-ledger-decides",
        ),
        pytest.param([], [], id="no-candidates"),
    ],
)
def test_estimate(candidates: list[Endpoint], expected: list[float]) -> None:
    assert COST.estimate_informed(REQUEST, candidates, NO_FACTS) == expected


def test_cached_tokens_cost_nothing_and_never_less() -> None:
    facts = Facts(PrefixMatch(tuple(range(200)), 16, {"a:1": 100, "b:1": 200}))
    candidates = [endpoint("a:1"), endpoint("b:1"), endpoint("c:1")]
    assert COST.estimate_informed(REQUEST, candidates, facts) == [0.4, 0.0, 2.0]


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"prefill_tokens_per_second": 0.0}, id="rate"),
        pytest.param({"tokens_per_waiting_request": -1}, id="tokens"),
    ],
)
def test_bad_parameter_is_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        PrefillBacklogCost(**parameters)
