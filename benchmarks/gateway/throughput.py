"""Part ``throughput``: requests per second of one gateway under 64 clients that never pause, and what limits it."""

import time
from dataclasses import dataclass
from typing import Final

from benchmarks.closed_loop import closed_loop
from benchmarks.gateway.arms import CLIENT, ENVOY, GATEWAY, PICKER, SERVER, Arms, Use, UseMeter, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate
from benchmarks.machine import busy_seconds, processors
from benchmarks.processes import open_stage
from benchmarks.quantiles import Summary
from benchmarks.workloads import BY_NAME, Workload

_CLIENTS: Final = 64
_WORKLOADS: Final = ("json-2k", "stream16-2k", "stream128-2k", "json-100k")
_FULL: Final = 0.9
_PROCESSES: Final = (PICKER, ENVOY, SERVER, CLIENT)


@dataclass(frozen=True, slots=True)
class Turn:
    """One load for a while.

    Attributes:
        requests: Answered within it.
        errors: What failed.
        use: What was used.
        busy_cores: Processors in use by anything on the machine.
        ttfb: Time to the first byte.
    """

    requests: int
    errors: tuple[str, ...]
    use: Use
    busy_cores: float
    ttfb: Summary

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.use.seconds

    def cores(self, process: str) -> float:
        """Share of a core."""
        return self.use.cpu_seconds[process] / self.use.seconds


@dataclass(frozen=True, slots=True)
class Figures:
    """Turns by workload."""

    clients: int
    processors: int
    turns: dict[str, list[Turn]]

    @property
    def errors(self) -> list[str]:
        """What failed."""
        return [error for turns in self.turns.values() for turn in turns for error in turn.errors]


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    return 5 + plan.passes * len(_WORKLOADS) * (plan.seconds * 1.2 + 0.5)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure every workload in turn."""
    turns: dict[str, list[Turn]] = {name: [] for name in _WORKLOADS}
    async with (
        open_stage(plan.envoy) as stage,
        open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms, names=(GATEWAY,)) as arms,
    ):
        client = arms.by_name[GATEWAY].client
        await closed_loop(client, BY_NAME["json-2k"], concurrency=_CLIENTS, seconds=min(1.0, plan.seconds))
        for number in range(plan.passes):
            for at, name in enumerate(_WORKLOADS):
                progress.step(number * len(_WORKLOADS) + at, plan.passes * len(_WORKLOADS), name)
                turns[name].append(await _turn(arms, BY_NAME[name], plan, number + 1))
    return Figures(_CLIENTS, processors(), turns)


async def _turn(arms: Arms, workload: Workload, plan: Plan, number: int) -> Turn:
    meter = UseMeter(arms, GATEWAY)
    await meter.begin()
    busy, began = busy_seconds(), time.perf_counter()
    exchanges = await closed_loop(
        arms.by_name[GATEWAY].client,
        workload,
        concurrency=_CLIENTS,
        seconds=plan.seconds,
        first=number * 1_000_000,
        spread_seconds=workload.events * plan.gap_ms / 1000,
    )
    busy_cores = (busy_seconds() - busy) / (time.perf_counter() - began)
    use = await meter.use()
    good = [e.ttft_seconds for e in exchanges if not e.error]
    return Turn(len(good), tuple(e.error for e in exchanges if e.error), use, busy_cores, Summary.of(good))


def limit_of(turns: list[Turn], available: int) -> str:
    """Return what kept the rate from being higher, as far as CPU tells."""
    shares = {name: Estimate.of([turn.cores(name) for turn in turns]).median for name in _PROCESSES}
    name, share = max(shares.items(), key=lambda item: item[1])
    busy = Estimate.of([turn.busy_cores for turn in turns]).median
    if share >= _FULL:
        return f"{name}: {share:.2f} of the one core it can use"
    if busy >= _FULL * available:
        return f"the machine: {busy:.2f} of {available} cores in use, {name} most ({share:.2f})"
    return f"no processor: {busy:.2f} of {available} cores in use, {name} most ({share:.2f})"


def bars(_figures: Figures) -> list[Bar]:
    """Return none: a rate is stated, not limited."""
    return []


def tables(figures: Figures) -> list[Table]:
    """Return rates with what limits them."""
    rows = [
        (
            name,
            Estimate.of([turn.rate for turn in turns]).text(0),
            Estimate.of([turn.ttfb.p50 for turn in turns]).text(1, 1000),
            Estimate.of([turn.ttfb.p99 for turn in turns]).text(1, 1000),
            *(Estimate.of([turn.cores(process) for turn in turns]).text(2) for process in _PROCESSES),
            limit_of(turns, figures.processors),
        )
        for name, turns in figures.turns.items()
    ]
    heads = ("load", "requests/s", "TTFB p50, ms", "TTFB p99, ms", "picker", "Envoy", "servers", "client", "limited by")
    return [Table(f"One gateway, one Envoy worker, {figures.clients} clients; cores by process", heads, rows)]
