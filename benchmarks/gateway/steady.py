"""Part ``steady``: what the gateway adds while the machine has time, at under a third of what it could do.

Clients that never pause fill the processors, and then every time is one of waiting for a processor. Here requests come
at random moments at a rate well below that.
"""

from typing import Final

from benchmarks.gateway.arms import GATEWAY, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.load_tables import background_table, cpu_table, latency_table
from benchmarks.gateway.loads import Load, LoadFigures, capacity, requests_of_a_pass, run_rounds
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.processes import open_stage
from benchmarks.workloads import BY_NAME

Figures = LoadFigures

_SHARE: Final = 0.3
_CLIENTS: Final = 64
_WORKLOADS: Final = ("json-2k", "stream16-2k")


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    return 12 + plan.passes * (len(_WORKLOADS) * 4 * (plan.seconds * 1.1 + 0.5) + 2 * plan.seconds + 4)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure each kind of request at its share of what the gateway can do."""
    async with open_stage(plan.envoy) as stage, open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms) as arms:
        loads = []
        for name in _WORKLOADS:
            workload, arm = BY_NAME[name], arms.by_name[GATEWAY]
            most = await capacity(arm, workload, concurrency=_CLIENTS, seconds=plan.seconds)
            rate = max(1, round(most * _SHARE))
            loads.append(Load(workload, 0, rate, requests_of_a_pass(rate, 1, plan.seconds)))
        return await run_rounds(loads, arms, plan, progress)


def bars(_figures: Figures) -> list[Bar]:
    """Return none: latencies are stated, not limited."""
    return []


def tables(figures: Figures) -> list[Table]:
    """Return latency and CPU."""
    return [latency_table(figures), cpu_table(figures), background_table(figures)]
