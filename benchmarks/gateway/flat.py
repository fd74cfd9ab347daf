"""Part ``flat``: whether a request costs the picker the same however long its answer is.

Streams of 16 and of 512 events come at one rate, so that nothing but their length can make their costs differ: with the
same number of clients fewer long streams end per second, and a request costs the more the fewer come, because each then
wakes sleeping threads and finds cold caches. Reading metrics pages would be most of what is used at such a rate. So the
bar rests on a gateway that reads them as seldom as it can be told to, of which little has to be taken off.
"""

from typing import Final

from benchmarks.gateway.arms import CONSTANT, GATEWAY, PICKER, RARE_PAGES, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.load_tables import net_ratio
from benchmarks.gateway.loads import Load, LoadFigures, capacity, requests_of_a_pass, run_rounds
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate
from benchmarks.processes import open_stage
from benchmarks.workloads import BY_NAME

Figures = LoadFigures

LIMIT: Final = 1.15

_SHARE: Final = 0.5
_CLIENTS: Final = 64
_WORKLOADS: Final = ("stream16-2k", "stream512-2k")
_ARMS: Final = (CONSTANT, RARE_PAGES, GATEWAY)
_TIMES_AS_LONG: Final = 2
"""Passes are longer than those of other parts: few requests come per second."""


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    passes = len(_WORKLOADS) * len(_ARMS) * (_TIMES_AS_LONG * plan.seconds + 0.9)
    return 12 + plan.passes * (passes + 2 * plan.seconds + 4)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure both lengths at half of the rate that the longest allow."""
    async with (
        open_stage(plan.envoy) as stage,
        open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms, names=_ARMS) as arms,
    ):
        longest = BY_NAME[_WORKLOADS[-1]]
        most = await capacity(arms.by_name[GATEWAY], longest, concurrency=_CLIENTS, seconds=plan.seconds)
        rate = max(1, round(most * _SHARE))
        requests = requests_of_a_pass(rate, 1, _TIMES_AS_LONG * plan.seconds)
        loads = [Load(BY_NAME[name], 0, rate, requests) for name in _WORKLOADS]
        return await run_rounds(loads, arms, plan, progress)


def bars(figures: Figures) -> list[Bar]:
    """Return the bar on the cost of long streams."""
    short, long = figures.loads
    ratio = {arm: net_ratio(long, short, arm, figures.background) for arm in _ARMS}
    name = f"picker, 512 events by 16, 2 KB, both at {long.rate:.0f}/s"
    basis = f"net, rare pages; usual pages: {ratio[GATEWAY].text()}; constant picker: {ratio[CONSTANT].text()}"
    return [Bar(name, LIMIT, ratio[RARE_PAGES], basis)]


def tables(figures: Figures) -> list[Table]:
    """Return CPU time by length."""
    background = figures.background

    def ms(figures_of_passes: list[float]) -> str:
        return Estimate.of(figures_of_passes).text(2, 1000)

    rows = [
        (
            load.name,
            str(load.requests),
            ms(load.gross(RARE_PAGES, PICKER)),
            ms(load.net(RARE_PAGES, PICKER, background)),
            ms(load.gross(GATEWAY, PICKER)),
            ms(load.net(GATEWAY, PICKER, background)),
            ms(load.net(CONSTANT, PICKER, background)),
        )
        for load in figures.loads
    ]
    heads = (
        "load",
        "requests/pass",
        "rare pages, gross",
        "rare pages, net",
        "gateway, gross",
        "gateway, net",
        "constant picker, net",
    )
    return [Table("CPU time of the picker per request at one rate, ms", heads, rows)]
