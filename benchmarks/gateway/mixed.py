"""Part ``mixed``: small requests at a steady rate, with and without another client that sends bodies of 30 MB.

Both in turn, in random order within a pair, through the gateway and through Envoy alone. What Envoy alone loses is what
this machine's processors and one Envoy worker lose by moving the bytes; the rest is the gateway's.
"""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.gateway.arms import ALONE, GATEWAY, Arm, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate, ratios
from benchmarks.processes import open_stage
from benchmarks.quantiles import Summary
from benchmarks.steady_loop import steady_loop
from benchmarks.workloads import BY_NAME
from igw.errors import CommandFailed

LIMIT: Final = 2.0

_RATE: Final = 100.0
_LARGE_BYTES: Final = 30_000_000
_LEAD_SECONDS: Final = 0.3
_END_SECONDS: Final = 60.0
_LEAST_REQUESTS: Final = 20
_ARMS: Final = (ALONE, GATEWAY)


@dataclass(frozen=True, slots=True)
class Large:
    """The large bodies of one turn; seconds from the first byte sent to the answer's last."""

    seconds: tuple[float, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """Small requests for a while.

    Attributes:
        ttfb: Their time to the first byte.
        errors: What failed of them.
        large: The large bodies beside them; None: there were none.
    """

    ttfb: Summary
    errors: tuple[str, ...]
    large: Large | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Without large bodies, and with them."""

    without: Turn
    beside: Turn


@dataclass(frozen=True, slots=True)
class Figures:
    """Pairs by arm."""

    rate: float
    large_bytes: int
    pairs: dict[str, list[Pair]]

    @property
    def errors(self) -> list[str]:
        """What failed."""
        turns = [turn for pairs in self.pairs.values() for pair in pairs for turn in (pair.without, pair.beside)]
        return [error for turn in turns for error in (*turn.errors, *(turn.large.errors if turn.large else ()))]


def _seconds(plan: Plan) -> float:
    """Return the length of a turn: a 99th percentile needs some hundred requests."""
    return 2 * plan.seconds


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    return 8 + plan.passes * len(_ARMS) * (2 * _seconds(plan) + 1.5)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure pairs of both arms in turn."""
    order = random.Random(plan.seed)
    pairs: dict[str, list[Pair]] = {name: [] for name in _ARMS}
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(open_stage(plan.envoy))
        arms = await stack.enter_async_context(open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms, names=_ARMS))
        senders = {
            name: await stack.enter_async_context(_large_client(arms.by_name[name], _LARGE_BYTES)) for name in _ARMS
        }
        for number in range(plan.passes):
            for at, name in enumerate(order.sample(_ARMS, len(_ARMS))):
                progress.step(2 * number + at, 2 * plan.passes, name)
                turns: dict[bool, Turn] = {}
                for large in order.sample((False, True), 2):
                    sender = senders[name] if large else None
                    turns[large] = await _turn(arms.by_name[name], sender, plan, 2 * number + large)
                pairs[name].append(Pair(turns[False], turns[True]))
    return Figures(_RATE, _LARGE_BYTES, pairs)


async def _turn(arm: Arm, sender: "_LargeClient | None", plan: Plan, number: int) -> Turn:
    if sender is not None:
        await sender.begin()
        await asyncio.sleep(_LEAD_SECONDS)
    requests = max(_LEAST_REQUESTS, round(_RATE * _seconds(plan)))
    exchanges = await steady_loop(
        arm.client, BY_NAME["json-2k"], rate=_RATE, requests=requests, first=(number + 1) * 100_000, seed=number
    )
    large = await sender.end() if sender is not None else None
    good = [e.ttft_seconds for e in exchanges if not e.error]
    return Turn(Summary.of(good), tuple(e.error for e in exchanges if e.error), large)


class _LargeClient:
    """The process that sends large bodies; `_large_client` makes one."""

    def __init__(self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self._stdin = stdin
        self._stdout = stdout

    async def begin(self) -> None:
        """Let it send."""
        self._stdin.write(b"begin\n")
        await self._stdin.drain()

    async def end(self) -> Large:
        """Let it finish the body that is under way, and return what became of all.

        Raises:
            CommandFailed: It ended by itself.
        """
        self._stdin.write(b"end\n")
        await self._stdin.drain()
        async with asyncio.timeout(_END_SECONDS):
            line = await self._stdout.readline()
        if not line:
            msg = "the client of large bodies ended"
            raise CommandFailed(msg)
        said: Mapping[str, list[Any]] = json.loads(line)
        return Large(tuple(said["seconds"]), tuple(said["errors"]))


@asynccontextmanager
async def _large_client(arm: Arm, size: int) -> AsyncIterator[_LargeClient]:
    listen = arm.gateway.listen
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.large_client", listen.ip, str(listen.port), str(size)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield _LargeClient(process.stdin, process.stdout)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _p99_ratio(pairs: list[Pair]) -> Estimate:
    return Estimate.of(ratios([p.beside.ttfb.p99 for p in pairs], [p.without.ttfb.p99 for p in pairs]))


def bars(figures: Figures) -> list[Bar]:
    """Return the bar on small requests beside large ones."""
    return [Bar("p99 of 2 KB beside 30 MB bodies, by that without", LIMIT, _p99_ratio(figures.pairs[GATEWAY]), "pairs")]


def tables(figures: Figures) -> list[Table]:
    """Return both arms."""

    def ms(pairs: list[Pair], kind: str, figure: str) -> str:
        return Estimate.of([getattr(getattr(pair, kind).ttfb, figure) for pair in pairs]).text(2, 1000)

    rows = []
    for name, pairs in figures.pairs.items():
        bodies = [seconds for pair in pairs if pair.beside.large for seconds in pair.beside.large.seconds]
        row = [name, *(ms(pairs, kind, figure) for figure in ("p50", "p99") for kind in ("without", "beside"))]
        rows.append([*row, _p99_ratio(pairs).text(), str(len(bodies)), f"{Summary.of(bodies).p50:.2f}"])
    heads = ("arm", "p50 without", "p50 beside", "p99 without", "p99 beside", "p99 ratio", "bodies", "s/body p50")
    size = f"{figures.large_bytes / 1e6:.0f} MB"
    title = f"JSON replies to 2 KB at {figures.rate:.0f}/s without and beside bodies of {size}, TTFB ms"
    return [Table(title, heads, rows)]
