"""Part ``steady``: what the gateway adds while the machine has time, at under a third of what it could do.

Clients that never pause fill the processors, and then every time is one of waiting for a processor. Here requests come
at random moments at a rate well below that. Streams of 16 and of 512 events come at one rate, so that nothing but their
length can make their costs differ.
"""

from typing import Final

from benchmarks.gateway.arms import GATEWAY, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.load_tables import background_table, cpu_table, flat_bar, latency_table
from benchmarks.gateway.loads import Load, LoadFigures, capacity, requests_of_a_pass, run_rounds
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.processes import open_stage
from benchmarks.workloads import BY_NAME

Figures = LoadFigures

_SHARE: Final = 0.3
_CLIENTS: Final = 64
_ALONE_AT_THEIR_RATE: Final = ("json-2k", "stream16-2k")
_AT_ONE_RATE: Final = ("stream16-2k", "stream512-2k")


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    return 15 + plan.passes * (4 * 3 * (plan.seconds * 1.2 + 0.8) + 2 * plan.seconds + 4)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure each kind of request at its share of what the gateway can do."""
    async with open_stage(plan.envoy) as stage, open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms) as arms:
        loads = []
        for names in (*((name,) for name in _ALONE_AT_THEIR_RATE), _AT_ONE_RATE):
            # The dearest of them decides.
            slowest = BY_NAME[names[-1]]
            seconds = max(0.5, min(plan.seconds, 2.0))
            most = await capacity(arms.by_name[GATEWAY], slowest, concurrency=_CLIENTS, seconds=seconds)
            rate = round(max(1.0, most * _SHARE))
            loads += [Load(BY_NAME[name], 0, rate, requests_of_a_pass(rate, 1, plan.seconds)) for name in names]
        return await run_rounds(loads, arms, plan, progress)


def bars(figures: Figures) -> list[Bar]:
    """Return the bar on the cost of long streams."""
    short, long = figures.loads[-2:]
    name = f"picker, 512 events by 16, 2 KB, both at {long.rate:.0f}/s"
    return [flat_bar(long, short, figures.background, name)]


def tables(figures: Figures) -> list[Table]:
    """Return latency and CPU."""
    return [latency_table(figures), cpu_table(figures), background_table(figures)]
