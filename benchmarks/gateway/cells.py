"""Part ``cells``: CPU per request and time to the first byte for every kind of request at every concurrency."""

from itertools import product
from typing import Final

from benchmarks.gateway.arms import CONSTANT, GATEWAY, OWN_SERVER, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.load_tables import background_table, cpu_table, floor_ratio, latency_table, net_ratio
from benchmarks.gateway.loads import Load, LoadFigures, capacity, requests_of_a_pass, run_rounds
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate
from benchmarks.processes import open_stage
from benchmarks.workloads import LARGE_BYTES

Figures = LoadFigures

FLOOR_LIMIT: Final = 1.6
LARGE_FLOOR_LIMIT: Final = 2.0

_CALIBRATION_SECONDS: Final = 0.4
_SHORT, _LONG = 16, 512


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    cells = len(plan.workloads) * len(plan.concurrency)
    return 5 + cells * (1.5 + plan.passes * (1.0 + 2.8 * plan.seconds)) + plan.passes * (2 * plan.seconds + 4)


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
    found = []
    for cell in figures.loads:
        limit = LARGE_FLOOR_LIMIT if cell.workload.prompt_bytes >= LARGE_BYTES else FLOOR_LIMIT
        name = f"picker by constant picker, {cell.name}"
        found.append(Bar(name, limit, floor_ratio(cell, figures.background), "net CPU per request"))
    return found


def tables(figures: Figures) -> list[Table]:
    """Return CPU, latency and background as tables."""
    found = [cpu_table(figures), _length_table(figures), latency_table(figures), background_table(figures)]
    return [table for table in found if table.rows]


def _length_table(figures: Figures) -> Table:
    """Return what long streams cost by what short ones do, with the same number of clients."""
    background = figures.background
    by_kind = {(c.workload.events, c.workload.prompt_bytes, c.concurrency): c for c in figures.loads}
    rows = []
    for (events, size, concurrency), cell in by_kind.items():
        short = by_kind.get((_SHORT, size, concurrency))
        if events == _LONG and short is not None:
            rates = [f"{Estimate.of(one.rates(GATEWAY)).median:.0f}" for one in (short, cell)]
            costs = [net_ratio(cell, short, arm, background).text() for arm in (GATEWAY, CONSTANT, OWN_SERVER)]
            rows.append((f"{size // 1024} KB c={concurrency}", *rates, *costs))
    heads = ("load", "16 events, requests/s", "512 events, requests/s", "gateway", "constant picker", "on own server")
    return Table("512 events by 16 with the same number of clients, net CPU of the picker per request", heads, rows)
