"""Part ``cells``: CPU per request and time to the first byte for every kind of request at every concurrency.

A pass is a fixed number of requests, the same for all arms, and ends when the last answer has been read and logged: no
request is half in it. Passes of all cells go round and round in random order, arms in random order within a cell, so a
machine that changes over the run touches all alike.
"""

import asyncio
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from benchmarks.closed_loop import closed_loop
from benchmarks.gateway.arms import ALONE, ARMS, CLIENT, CONSTANT, ENVOY, GATEWAY, PICKER, Arm, Arms, Use, UseMeter
from benchmarks.gateway.background import Background, Window, busy_window, fit, idle_window
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate, ratios
from benchmarks.quantiles import Summary
from benchmarks.workloads import LARGE_BYTES, Workload

FLAT_LIMIT: Final = 1.15
FLOOR_LIMIT: Final = 1.6
LARGE_FLOOR_LIMIT: Final = 2.0

_SETTLE_SECONDS: Final = 0.15
_LEAST_ROUNDS: Final = 2
_LEAST_REQUESTS: Final = 4
_CALIBRATION_SECONDS: Final = 0.4
_NUMBERS_PER_PASS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Pass:
    """One arm under one load, once.

    Attributes:
        requests: Answered requests; all were, or `errors` says what failed.
        errors: What failed, as text.
        use: What was used.
        ttfb: Time to the first byte of an answer's body.
    """

    requests: int
    errors: tuple[str, ...]
    use: Use
    ttfb: Summary


@dataclass(slots=True)
class Cell:
    """One kind of request at one concurrency, and its passes by arm.

    Attributes:
        workload: What is asked.
        concurrency: Clients.
        requests: Requests of a pass.
        passes: In the order of rounds, so that those of one round are at the same place.
    """

    workload: Workload
    concurrency: int
    requests: int = 0
    passes: dict[str, list[Pass]] = field(default_factory=lambda: {arm: [] for arm in ARMS})

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.workload.name} c={self.concurrency}"

    def gross(self, arm: str, process: str) -> list[float]:
        """Return the CPU seconds per request of each pass."""
        return [one.use.cpu_seconds[process] / one.requests for one in self.passes[arm]]

    def net(self, arm: str, process: str, background: Mapping[str, Background]) -> list[float]:
        """Return the CPU seconds per request of each pass, less what the arm would have used without requests."""
        return [
            (one.use.cpu_seconds[process] - background[arm].of(process, one.use)) / one.requests
            for one in self.passes[arm]
        ]

    def added(self, figure: str) -> list[float]:
        """Return what the gateway adds to a figure of Envoy alone, pass by pass; seconds."""
        pairs = zip(self.passes[GATEWAY], self.passes[ALONE], strict=True)
        return [getattr(one.ttfb, figure) - getattr(alone.ttfb, figure) for one, alone in pairs]

    def rates(self, arm: str) -> list[float]:
        """Return the requests per second of each pass."""
        return [one.requests / (one.use.seconds - _SETTLE_SECONDS) for one in self.passes[arm]]


@dataclass(frozen=True, slots=True)
class CellFigures:
    """What the part measured."""

    cells: tuple[Cell, ...]
    windows: tuple[Window, ...]

    @property
    def background(self) -> dict[str, Background]:
        """What each arm uses without requests."""
        return {arm: fit(self.windows, arm) for arm in ARMS}

    @property
    def errors(self) -> list[str]:
        """What failed, over all cells."""
        return [
            error for cell in self.cells for passes in cell.passes.values() for one in passes for error in one.errors
        ]


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    cells = len(plan.workloads) * len(plan.concurrency)
    return cells * (2.0 + plan.passes * 2.6 * plan.seconds) + plan.passes * (2 * plan.seconds + 4)


async def measure(arms: Arms, plan: Plan, progress: Progress) -> CellFigures:
    """Measure all cells and what happens between them."""
    order = random.Random(plan.seed)
    cells = [Cell(workload, concurrency) for workload, concurrency in product(plan.workloads, plan.concurrency)]
    for cell in cells:
        cell.requests = await _requests_of_a_pass(cell, arms.by_name[GATEWAY], plan)
    windows: list[Window] = []
    steps = (len(cells) + 2) * plan.passes
    done, first = 0, _NUMBERS_PER_PASS
    for _ in range(plan.passes):
        # Two of the steps of a round are windows: without requests, and with quiet streams.
        things: list[Cell | bool] = [*cells, False, True]
        for thing in order.sample(things, len(things)):
            if isinstance(thing, Cell):
                progress.step(done, steps, thing.name)
                for name in order.sample(ARMS, len(ARMS)):
                    thing.passes[name].append(await _pass(thing, arms, name, first, plan.gap_ms / 1000))
                    first += _NUMBERS_PER_PASS
            else:
                window = busy_window if thing else idle_window
                windows.append(await window(arms, max(1.0, plan.seconds)))
            done += 1
    return CellFigures(tuple(cells), tuple(windows))


async def _requests_of_a_pass(cell: Cell, arm: Arm, plan: Plan) -> int:
    """Return how many requests keep the gateway busy for about the plan's seconds: several per client."""
    began = time.perf_counter()
    seconds = min(_CALIBRATION_SECONDS, plan.seconds)
    found = await closed_loop(arm.client, cell.workload, concurrency=cell.concurrency, seconds=seconds)
    rate = len(found) / (time.perf_counter() - began)
    rounds = max(_LEAST_ROUNDS, math.ceil(rate * plan.seconds / cell.concurrency))
    return max(_LEAST_REQUESTS, rounds * cell.concurrency)


async def _pass(cell: Cell, arms: Arms, name: str, first: int, gap_seconds: float) -> Pass:
    meter = UseMeter(arms, name)
    await meter.begin()
    exchanges = await closed_loop(
        arms.by_name[name].client,
        cell.workload,
        concurrency=cell.concurrency,
        requests=cell.requests,
        first=first,
        spread_seconds=cell.workload.events * gap_seconds,
    )
    # The access log follows the answer.
    await asyncio.sleep(_SETTLE_SECONDS)
    use = await meter.use()
    good = [e.ttft_seconds for e in exchanges if not e.error]
    return Pass(len(exchanges), tuple(e.error for e in exchanges if e.error), use, Summary.of(good))


# -- what the figures say ---------------------------------------------------------------------------------------------


def floor_ratio(cell: Cell, background: Mapping[str, Background]) -> Estimate:
    """Return the gateway's picker by the constant one, net CPU per request."""
    return Estimate.of(ratios(cell.net(GATEWAY, PICKER, background), cell.net(CONSTANT, PICKER, background)))


def bars(figures: CellFigures) -> list[Bar]:
    """Return the bars on CPU per request."""
    background = figures.background
    by_kind = {(c.workload.events, c.workload.prompt_bytes, c.concurrency): c for c in figures.cells}
    found = []
    for (events, size, concurrency), cell in by_kind.items():
        short = by_kind.get((16, size, concurrency))
        if events == 512 and short is not None:
            flat = Estimate.of(ratios(cell.net(GATEWAY, PICKER, background), short.net(GATEWAY, PICKER, background)))
            name = f"picker, 512 events by 16, {size // 1024} KB, c={concurrency}"
            found.append(Bar(name, FLAT_LIMIT, flat, "net CPU per request"))
    for cell in figures.cells:
        limit = LARGE_FLOOR_LIMIT if cell.workload.prompt_bytes >= LARGE_BYTES else FLOOR_LIMIT
        name = f"picker by constant picker, {cell.name}"
        found.append(Bar(name, limit, floor_ratio(cell, background), "net CPU per request"))
    return found


def tables(figures: CellFigures) -> list[Table]:
    """Return CPU, latency and background as tables."""
    background = figures.background
    return [_cpu_table(figures, background), _latency_table(figures), _background_table(figures, background)]


def _ms(samples: Sequence[float]) -> str:
    return Estimate.of(samples).text(2, 1000.0)


def _cpu_table(figures: CellFigures, background: Mapping[str, Background]) -> Table:
    heads = (
        "cell",
        "requests/pass",
        "picker gross",
        "picker net",
        "constant picker",
        "net/constant",
        "Envoy",
        "Envoy, constant",
        "Envoy alone",
    )
    rows = [
        (
            cell.name,
            str(cell.requests),
            _ms(cell.gross(GATEWAY, PICKER)),
            _ms(cell.net(GATEWAY, PICKER, background)),
            _ms(cell.net(CONSTANT, PICKER, background)),
            floor_ratio(cell, background).text(),
            *(_ms(cell.net(arm, ENVOY, background)) for arm in (GATEWAY, CONSTANT, ALONE)),
        )
        for cell in figures.cells
    ]
    return Table("CPU time per request, ms", heads, rows)


def _latency_table(figures: CellFigures) -> Table:
    heads = (
        "cell",
        "alone p50",
        "alone p99",
        "+p50",
        "+p99",
        "requests/s",
        "alone requests/s",
        "cores used with the gateway",
    )
    rows = [
        (
            cell.name,
            _ms([one.ttfb.p50 for one in cell.passes[ALONE]]),
            _ms([one.ttfb.p99 for one in cell.passes[ALONE]]),
            _ms(cell.added("p50")),
            _ms(cell.added("p99")),
            f"{Estimate.of(cell.rates(GATEWAY)).median:.0f}",
            f"{Estimate.of(cell.rates(ALONE)).median:.0f}",
            _cores([one.use for one in cell.passes[GATEWAY]]),
        )
        for cell in figures.cells
    ]
    return Table("Time to the first byte, ms: Envoy alone, and what the gateway adds", heads, rows)


def _cores(uses: Sequence[Use]) -> str:
    """Return the medians of what each process used, as shares of a core."""

    def share(name: str) -> float:
        return Estimate.of([use.cpu_seconds[name] / use.seconds for use in uses]).median

    return ", ".join(f"{name} {share(name):.2f}" for name in (PICKER, ENVOY, CLIENT))


def _background_table(figures: CellFigures, background: Mapping[str, Background]) -> Table:
    def cores(arm: str, process: str, *, busy: bool) -> str:
        windows = [w.uses[arm] for w in figures.windows if w.busy is busy]
        return Estimate.of([use.cpu_seconds[process] / use.seconds for use in windows]).text(4)

    def pages(*, busy: bool) -> str:
        uses = [w.uses[GATEWAY] for w in figures.windows if w.busy is busy]
        return Estimate.of([use.pages / use.seconds for use in uses]).text(1)

    columns = ((GATEWAY, PICKER), (CONSTANT, PICKER), (GATEWAY, ENVOY), (ALONE, ENVOY))
    rows = [
        (name, pages(busy=busy), *(cores(arm, process, busy=busy) for arm, process in columns))
        for name, busy in (("idle", False), ("a quiet stream at every endpoint", True))
    ]
    own = background[GATEWAY]
    note = (
        f"Taken off for net figures: {own.picker_per_page * 1000:.2f} ms of the picker per page and "
        f"{own.picker_per_second * 1000:.2f} ms per second; "
        f"{background[CONSTANT].picker_per_second * 1000:.2f} ms of the constant picker per second; "
        f"{own.envoy_per_second * 1000:.2f} ms of the gateway's Envoy per second."
    )
    heads = ("", "pages/s", "picker", "constant picker", "Envoy", "Envoy alone")
    return Table("What is used without requests, cores", heads, rows, note)
