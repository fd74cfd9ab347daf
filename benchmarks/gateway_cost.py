"""``gateway``: what picker and Envoy cost per request, and what they add to the time to the first byte.

Three arms take turns on the same machine in the same run: Envoy alone (the same binary, round robin, no filters), the
gateway's Envoy with a picker that answers constants (what Python and gRPC cost at least), and the whole gateway.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Final

import aiohttp

from benchmarks.client import new_session
from benchmarks.closed_loop import Workload, closed_loop
from benchmarks.cpu_clock import CpuMeter, cpu_seconds
from benchmarks.processes import Gateway, open_stage
from benchmarks.quantiles import Spread, Summary
from benchmarks.results import write_results
from benchmarks.text_table import milliseconds, table

ALONE: Final = "envoy-alone"
CONSTANT: Final = "constant-picker"
GATEWAY: Final = "gateway"
_ARMS: Final = (ALONE, CONSTANT, GATEWAY)

_SMALL, _LARGE = 2 * 1024, 100 * 1024
WORKLOADS: Final = (
    Workload("json-2k", _SMALL),
    Workload("json-100k", _LARGE),
    Workload("stream16-2k", _SMALL, 16),
    Workload("stream16-100k", _LARGE, 16),
    Workload("stream128-2k", _SMALL, 128),
    Workload("stream512-2k", _SMALL, 512),
)
_QUICK: Final = frozenset({"json-2k", "json-100k", "stream16-2k", "stream128-2k"})
_SETTLE_SECONDS: Final = 0.15
_IDLE_SECONDS: Final = 3.0
_LEGEND: Final = """\
CPU and times in ms per request: median of the passes (least-most)
+p50, +p99: time to the first byte, gateway less Envoy alone"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload at one concurrency."""

    workload: Workload
    concurrency: int

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.workload.name} c={self.concurrency}"


@dataclass(frozen=True, slots=True)
class Pass:
    """One arm under one cell, once.

    Attributes:
        requests: Answered requests.
        errors: What failed, as text.
        cpu_seconds: CPU time per request by process.
        ttft: Time to the first byte of the answer.
    """

    requests: int
    errors: tuple[str, ...]
    cpu_seconds: Mapping[str, float]
    ttft: Summary


@dataclass(slots=True)
class Measurements:
    """All passes of one cell by arm."""

    cell: Cell
    passes: dict[str, list[Pass]] = field(default_factory=lambda: {arm: [] for arm in _ARMS})

    def cpu(self, arm: str, process: str) -> Spread:
        """Return CPU seconds per request of one process."""
        return Spread.of([one.cpu_seconds[process] for one in self.passes[arm]])

    def added(self, arm: str, figure: str) -> Spread:
        """Return what *arm* adds to a figure of Envoy alone, seconds; passes are compared pairwise."""
        pairs = zip(self.passes[arm], self.passes[ALONE], strict=True)
        return Spread.of([getattr(one.ttft, figure) - getattr(alone.ttft, figure) for one, alone in pairs])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--quick", action="store_true", help="fewer workloads and passes, below two minutes")
    parser.add_argument(
        "--workload", action="append", choices=[w.name for w in WORKLOADS], help="only these; repeatable"
    )
    parser.add_argument("--concurrency", type=int, action="append", help="clients at once; repeatable (1 and 16)")
    parser.add_argument("--passes", type=int, help="turns of each arm per workload (5; quick 2)")
    parser.add_argument("--seconds", type=float, help="length of one turn (4; quick 1)")
    parser.add_argument("--endpoints", type=int, default=8, help="model servers of the pool")
    parser.add_argument("--gap-ms", type=float, default=2.0, help="time between two events of a stream")
    parser.add_argument("--seed", type=int, default=1, help="order of the arms")


async def run(options: argparse.Namespace) -> int:
    """Measure, print and write; return the number of failed requests."""
    wanted = options.workload or [w.name for w in WORKLOADS if not options.quick or w.name in _QUICK]
    workloads = [w for w in WORKLOADS if w.name in wanted]
    cells = [Cell(w, c) for w, c in product(workloads, options.concurrency or [1, 16])]
    passes = options.passes or (2 if options.quick else 5)
    seconds = options.seconds or (1.0 if options.quick else 4.0)
    print(f"gateway: {len(cells)} cells x {len(_ARMS)} arms x {passes} passes x {seconds:g} s", flush=True)
    async with open_stage(options.envoy) as stage, AsyncExitStack() as stack:
        servers = await stage.fast_servers(options.endpoints, gap_ms=options.gap_ms)
        arms = {
            ALONE: await stage.plain_envoy(servers, "round-robin"),
            CONSTANT: await stage.constant_gateway(servers),
            GATEWAY: await stage.gateway(servers),
        }
        sessions = {arm: await stack.enter_async_context(new_session()) for arm in _ARMS}
        for arm in _ARMS:
            await closed_loop(sessions[arm], arms[arm].url, workloads[0], concurrency=4, seconds=0.5)
        measured = await _measure(cells, arms, sessions, passes, seconds, random.Random(options.seed))
        idle = await _idle_cores(arms[GATEWAY])
    errors = [text for m in measured for runs in m.passes.values() for one in runs for text in one.errors]
    print(f"\n{_table(measured)}\n")
    print(
        f"idle gateway with {options.endpoints} endpoints: picker {idle['picker']:.4f}, envoy {idle['envoy']:.4f} cores"
    )
    print(f"failed requests: {len(errors)} {sorted(set(errors))[:5] if errors else ''}")
    write_results(
        options.output, "gateway", vars(options), {"cells": [_as_json(m) for m in measured], "idle_cores": idle}
    )
    return len(errors)


async def _measure(
    cells: Sequence[Cell],
    arms: Mapping[str, Gateway],
    sessions: Mapping[str, aiohttp.ClientSession],
    passes: int,
    seconds: float,
    order: random.Random,
) -> list[Measurements]:
    found: list[Measurements] = []
    for cell in cells:
        measurements = Measurements(cell)
        began = time.perf_counter()
        for number in range(passes):
            for arm in order.sample(_ARMS, len(_ARMS)):
                first = (len(found) * passes + number) * 10_000_000
                measurements.passes[arm].append(await _pass(cell, arms[arm], sessions[arm], seconds, first))
        found.append(measurements)
        print(f"  {cell.name}: {time.perf_counter() - began:.0f} s", flush=True)
    return found


async def _pass(cell: Cell, arm: Gateway, session: aiohttp.ClientSession, seconds: float, first: int) -> Pass:
    meter = CpuMeter(arm.pids)
    exchanges = await closed_loop(
        session, arm.url, cell.workload, concurrency=cell.concurrency, seconds=seconds, first=first
    )
    # The access log follows the answer.
    await asyncio.sleep(_SETTLE_SECONDS)
    used = meter.seconds()
    good = [e.ttft_seconds for e in exchanges if not e.error]
    return Pass(
        len(good),
        tuple(e.error for e in exchanges if e.error),
        {name: value / max(1, len(exchanges)) for name, value in used.items()},
        Summary.of(good),
    )


async def _idle_cores(gateway: Gateway) -> dict[str, float]:
    """Return what the gateway uses without requests, as a share of one core."""
    await asyncio.sleep(1.0)
    before = {name: cpu_seconds(pid) for name, pid in gateway.pids.items()}
    await asyncio.sleep(_IDLE_SECONDS)
    return {name: (cpu_seconds(pid) - before[name]) / _IDLE_SECONDS for name, pid in gateway.pids.items()}


def _table(measured: Sequence[Measurements]) -> str:
    heads = (
        "cell",
        "requests",
        "picker",
        "constant",
        "envoy",
        "envoy const.",
        "envoy alone",
        "alone p50",
        "+p50",
        "+p99",
    )
    rows = []
    for m in measured:
        scaled = [m.cpu(GATEWAY, "picker"), m.cpu(CONSTANT, "picker")]
        scaled += [m.cpu(GATEWAY, "envoy"), m.cpu(CONSTANT, "envoy"), m.cpu(ALONE, "envoy")]
        scaled += [
            Spread.of([one.ttft.p50 for one in m.passes[ALONE]]),
            m.added(GATEWAY, "p50"),
            m.added(GATEWAY, "p99"),
        ]
        requests = sum(one.requests for one in m.passes[GATEWAY])
        rows.append((m.cell.name, str(requests), *(_text(spread) for spread in scaled)))
    return f"{_LEGEND}\n{table(heads, rows)}"


def _text(spread: Spread) -> str:
    return f"{milliseconds(spread.median)} ({milliseconds(spread.least)}-{milliseconds(spread.most)})"


def _as_json(measured: Measurements) -> dict[str, object]:
    return {
        "workload": measured.cell.workload.name,
        "concurrency": measured.cell.concurrency,
        "arms": {arm: [asdict(one) for one in runs] for arm, runs in measured.passes.items()},
    }
