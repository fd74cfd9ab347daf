"""Part ``cells``: CPU per request and time to the first byte for every kind of request at every concurrency."""

from itertools import product
from typing import Final

from benchmarks.gateway.arms import GATEWAY, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.load_tables import background_table, cpu_table, flat_bar, floor_ratio, latency_table
from benchmarks.gateway.loads import Load, LoadFigures, capacity, requests_of_a_pass, run_rounds
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.processes import open_stage
from benchmarks.workloads import LARGE_BYTES

Figures = LoadFigures

FLOOR_LIMIT: Final = 1.6
LARGE_FLOOR_LIMIT: Final = 2.0

_CALIBRATION_SECONDS: Final = 0.4


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    cells = len(plan.workloads) * len(plan.concurrency)
    return 5 + cells * (1.5 + plan.passes * (0.8 + 2.4 * plan.seconds)) + plan.passes * (2 * plan.seconds + 4)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure all cells."""
    async with open_stage(plan.envoy) as stage, open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms) as arms:
        cells = [Load(workload, concurrency) for workload, concurrency in product(plan.workloads, plan.concurrency)]
        for cell in cells:
            seconds = min(_CALIBRATION_SECONDS, plan.seconds)
            rate = await capacity(arms.by_name[GATEWAY], cell.workload, concurrency=cell.concurrency, seconds=seconds)
            cell.requests = requests_of_a_pass(rate, cell.concurrency, plan.seconds)
        return await run_rounds(cells, arms, plan, progress)


def bars(figures: Figures) -> list[Bar]:
    """Return the bars on CPU per request."""
    background = figures.background
    by_kind = {(c.workload.events, c.workload.prompt_bytes, c.concurrency): c for c in figures.loads}
    found = []
    for (events, size, concurrency), cell in by_kind.items():
        short = by_kind.get((16, size, concurrency))
        if events == 512 and short is not None:
            name = f"picker, 512 events by 16, {size // 1024} KB, c={concurrency}"
            found.append(flat_bar(cell, short, background, name))
    for cell in figures.loads:
        limit = LARGE_FLOOR_LIMIT if cell.workload.prompt_bytes >= LARGE_BYTES else FLOOR_LIMIT
        name = f"picker by constant picker, {cell.name}"
        found.append(Bar(name, limit, floor_ratio(cell, background), "net CPU per request"))
    return found


def tables(figures: Figures) -> list[Table]:
    """Return CPU, latency and background as tables."""
    return [cpu_table(figures), latency_table(figures), background_table(figures)]
