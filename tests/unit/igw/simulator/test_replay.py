"""A replay in virtual time is exact, and its queueing agrees with Dynamo's mock engine on a comparable workload.

The reference figures come from Dynamo's own offline replay of a shared-prefix workload (150 groups of 5 prompts, 6000
shared and 1200 own tokens, 1000 out, arrivals random over 120 s) on 8 engines with round robin. Its arrival times and
the order of its prompts are not known, so ours are drawn, with the same number of requests. Measured over several
seeds and two ways to draw prompts (8 draws each at 3/s, 5 each at 10/s), ours minus theirs:

================  ==============  ==============
figure            3 requests/s    10 requests/s
================  ==============  ==============
output tokens/s   -2.0 … -0.1 %   -0.2 … +3.6 %
mean TPOT         -6.0 … -1.2 %   -1.0 … +1.1 %
mean TTFT         -4.8 … +1.4 %   -15.1 … +3.5 %
================  ==============  ==============

TPOT at 3/s is low in every draw, so that part is a bias and not chance; its cause is not known. The tolerances below
cover these ranges and are no claim of more.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

import pytest

from igw.simulator.engine import Engine
from igw.simulator.engine_settings import EngineSettings
from igw.simulator.replay import RequestRecord, TimedRequest, replay
from igw.simulator.sequence import SequenceRequest
from igw.simulator.timing import LinearTiming, PolynomialTiming

FIGURES = Path(__file__).parents[3] / "data" / "dynamo_replay.json"
SECOND_PER_STEP = LinearTiming(1.0, 0.0, 0.0, 0.0, 0.0)


def round_robin() -> Callable[[TimedRequest, Sequence[Engine]], int]:
    turn = -1

    def choose(_request: TimedRequest, engines: Sequence[Engine]) -> int:
        nonlocal turn
        turn += 1
        return turn % len(engines)

    return choose


def small_engine(**changes: object) -> Engine:
    return Engine(EngineSettings(**{"num_blocks": 100, "block_size": 4, **changes}), SECOND_PER_STEP)


def test_times_are_those_of_the_steps() -> None:
    requests = [TimedRequest(0.0, SequenceRequest(1, 4, 3)), TimedRequest(0.5, SequenceRequest(2, 4, 1))]
    first, second = replay(requests, [small_engine()], round_robin())
    assert (first.ttft_seconds, first.last_token_seconds, first.tpot_seconds) == (1.0, 3.0, 1.0)
    assert (second.ttft_seconds, second.last_token_seconds, second.tpot_seconds) == (1.5, 2.0, None)


def test_an_arrival_at_the_end_of_a_step_joins_the_next_one() -> None:
    requests = [TimedRequest(0.0, SequenceRequest(1, 4, 2)), TimedRequest(1.0, SequenceRequest(2, 4, 1))]
    records = replay(requests, [small_engine()], round_robin())
    assert records[1].last_token_seconds == 2.0


def test_the_policy_sees_the_engines_as_they_are() -> None:
    def least_loaded(_request: TimedRequest, engines: Sequence[Engine]) -> int:
        return min(range(len(engines)), key=lambda index: engines[index].running + engines[index].waiting)

    requests = [TimedRequest(0.0, SequenceRequest(number, 4, 5)) for number in range(4)]
    records = replay(requests, [small_engine(), small_engine()], least_loaded)
    assert sorted(record.engine for record in records) == [0, 0, 1, 1]


def test_a_full_queue_is_a_rejection() -> None:
    requests = [TimedRequest(0.0, SequenceRequest(number, 4, 5)) for number in range(3)]
    records = replay(requests, [small_engine(max_num_seqs=1, max_queued_requests=1)], round_robin())
    assert [record.rejected for record in records] == [False, False, True]
    assert records[2].ttft_seconds is None


def test_an_observer_learns_of_first_tokens_and_ends() -> None:
    seen: list[tuple[float, bool]] = []

    def observe(now: float, record: RequestRecord) -> None:
        seen.append((now, record.last_token_seconds is not None))

    replay([TimedRequest(0.0, SequenceRequest(1, 4, 3))], [small_engine()], round_robin(), observe)
    assert seen == [(1.0, False), (3.0, True)]


def test_requests_must_be_in_order() -> None:
    requests = [TimedRequest(1.0, SequenceRequest(1, 4, 1)), TimedRequest(0.0, SequenceRequest(2, 4, 1))]
    with pytest.raises(ValueError, match="not sorted"):
        replay(requests, [small_engine()], round_robin())


def test_a_policy_must_choose_an_engine_that_exists() -> None:
    with pytest.raises(ValueError, match="chose engine 7"):
        replay([TimedRequest(0.0, SequenceRequest(1, 4, 1))], [small_engine()], lambda _request, _engines: 7)


def shared_prefix(number: int, *, seconds: float, seed: int) -> Iterator[TimedRequest]:
    """Yield *number* requests at random times, as a Poisson process with that many arrivals has them."""
    source = random.Random(seed)
    arrivals = sorted(source.uniform(0, seconds) for _ in range(number))
    for sequence_id, arrival in enumerate(arrivals):
        group, prompt = source.randrange(150), source.randrange(5)
        shared = [group * 1000 + block for block in range(300)]
        own = [10_000_000 + (group * 5 + prompt) * 1000 + block for block in range(60)]
        yield TimedRequest(arrival, SequenceRequest(sequence_id, 7200, 1000, shared + own))


def dynamo_run(rate: int) -> dict[str, float]:
    runs = json.loads(FIGURES.read_text())["runs"]
    [found] = [
        run["result"]
        for run in runs
        if run["trace"].startswith("shared_prefix") and run["rate_per_s"] == rate and run["router"] == "round_robin"
    ]
    return found


@pytest.mark.parametrize(
    ("rate", "tpot_tolerance", "ttft_tolerance"),
    [
        pytest.param(3, 0.08, 0.08, id="unsaturated"),
        # Requests wait for KV blocks: seconds of queueing that depend on the draw.
        pytest.param(10, 0.03, 0.20, id="saturated", marks=pytest.mark.slow),
    ],
)
def test_queueing_agrees_with_dynamo(rate: int, tpot_tolerance: float, ttft_tolerance: float) -> None:
    expected = dynamo_run(rate)
    number = int(expected["num_requests"])
    sizes = EngineSettings(block_size=20, num_blocks=15_366)
    engines = [Engine(sizes, PolynomialTiming(speedup=0.33, decode_speedup=3.0)) for _ in range(8)]
    records = replay(shared_prefix(number, seconds=120.0, seed=1), engines, round_robin())
    ttft = [record.ttft_seconds for record in records if record.ttft_seconds is not None]
    tpot = [record.tpot_seconds for record in records if record.tpot_seconds is not None]
    end = max(record.last_token_seconds or 0.0 for record in records)
    assert len(ttft) == len(tpot) == number
    assert number * 1000 / end == pytest.approx(expected["output_throughput_tok_s"], rel=0.05)
    assert fmean(tpot) * 1000 == pytest.approx(expected["mean_tpot_ms"], rel=tpot_tolerance)
    assert fmean(ttft) * 1000 == pytest.approx(expected["mean_ttft_ms"], rel=ttft_tolerance)
