"""Part ``mixed``: small requests at a steady rate, with and without another client that sends bodies of 30 MB.

The other client has a network of 1 Gbit/s, or sends as fast as loopback goes, which is some twenty times that and keeps
Envoy's one worker copying. All three in turn, in random order, through the gateway and through Envoy alone. What Envoy
alone loses is what this machine's processors and one worker lose by moving the bytes; the rest is the gateway's.
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
_WITHOUT: Final = "without"
_BESIDE: Final[dict[str, float | None]] = {_WITHOUT: None, "at 1 Gbit/s": 125e6, "at loopback's speed": 0.0}
"""What is beside the small requests: the bytes per second of the large client's network, 0 for no bound."""


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
class Figures:
    """Turns by arm and by what was beside the small requests; those of one round are at the same place."""

    rate: float
    large_bytes: int
    turns: dict[str, dict[str, list[Turn]]]

    @property
    def errors(self) -> list[str]:
        """What failed."""
        turns = [turn for of_arm in self.turns.values() for found in of_arm.values() for turn in found]
        return [error for turn in turns for error in (*turn.errors, *(turn.large.errors if turn.large else ()))]


def _seconds(plan: Plan) -> float:
    """Return the length of a turn: a 99th percentile needs some hundred requests."""
    return 2 * plan.seconds


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    return 8 + plan.passes * len(_ARMS) * (len(_BESIDE) * _seconds(plan) + 2)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure both arms in turn."""
    order = random.Random(plan.seed)
    turns: dict[str, dict[str, list[Turn]]] = {name: {kind: [] for kind in _BESIDE} for name in _ARMS}
    steps = plan.passes * len(_ARMS) * len(_BESIDE)
    done = 0
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(open_stage(plan.envoy))
        arms = await stack.enter_async_context(open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms, names=_ARMS))
        senders = {
            name: await stack.enter_async_context(_large_client(arms.by_name[name], _LARGE_BYTES)) for name in _ARMS
        }
        for number in range(plan.passes):
            for name in order.sample(_ARMS, len(_ARMS)):
                for kind in order.sample(tuple(_BESIDE), len(_BESIDE)):
                    progress.step(done, steps, f"{name} {kind}")
                    turn = await _turn(arms.by_name[name], senders[name], _BESIDE[kind], plan, number)
                    turns[name][kind].append(turn)
                    done += 1
    return Figures(_RATE, _LARGE_BYTES, turns)


async def _turn(arm: Arm, sender: "_LargeClient", bytes_per_second: float | None, plan: Plan, number: int) -> Turn:
    if bytes_per_second is not None:
        await sender.begin(bytes_per_second)
        await asyncio.sleep(_LEAD_SECONDS)
    requests = max(_LEAST_REQUESTS, round(_RATE * _seconds(plan)))
    exchanges = await steady_loop(
        arm.client, BY_NAME["json-2k"], rate=_RATE, requests=requests, first=(number + 1) * 100_000, seed=number
    )
    large = await sender.end() if bytes_per_second is not None else None
    good = [e.ttft_seconds for e in exchanges if not e.error]
    return Turn(Summary.of(good), tuple(e.error for e in exchanges if e.error), large)


class _LargeClient:
    """The process that sends large bodies; `_large_client` makes one."""

    def __init__(self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self._stdin = stdin
        self._stdout = stdout

    async def begin(self, bytes_per_second: float) -> None:
        """Let it send."""
        self._stdin.write(b"%f\n" % bytes_per_second)
        await self._stdin.drain()

    async def end(self) -> Large:
        """Let it finish the body that is under way, and return what became of all.

        Raises:
            CommandFailed: It does not answer.
        """
        self._stdin.write(b"end\n")
        await self._stdin.drain()
        said: Mapping[str, list[Any]] = json.loads(await self.read())
        return Large(tuple(said["seconds"]), tuple(said["errors"]))

    async def read(self) -> bytes:
        """Return the next line that it says.

        Raises:
            CommandFailed: It says nothing, or has ended.
        """
        try:
            async with asyncio.timeout(_END_SECONDS):
                line = await self._stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            msg = "the client of large bodies does not answer"
            raise CommandFailed(msg)
        return line


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
        client = _LargeClient(process.stdin, process.stdout)
        await client.read()
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _p99_ratio(turns: Mapping[str, list[Turn]], kind: str) -> Estimate:
    return Estimate.of(ratios([one.ttfb.p99 for one in turns[kind]], [one.ttfb.p99 for one in turns[_WITHOUT]]))


def bars(figures: Figures) -> list[Bar]:
    """Return the bars on small requests beside large ones."""
    turns = figures.turns[GATEWAY]
    kinds = [kind for kind in turns if kind != _WITHOUT]
    return [
        Bar(f"p99 of 2 KB beside 30 MB bodies {kind}, by that without", LIMIT, _p99_ratio(turns, kind), "rounds")
        for kind in kinds
    ]


def tables(figures: Figures) -> list[Table]:
    """Return both arms."""
    rows = []
    for name, by_kind in figures.turns.items():
        for kind, turns in by_kind.items():
            bodies = [seconds for turn in turns if turn.large for seconds in turn.large.seconds]
            figure = [Estimate.of([getattr(t.ttfb, f) for t in turns]).text(2, 1000) for f in ("p50", "p99")]
            ratio = "" if kind == _WITHOUT else _p99_ratio(by_kind, kind).text()
            large = [str(len(bodies)), f"{Summary.of(bodies).p50:.2f}"] if bodies else ["", ""]
            rows.append([name, kind, *figure, ratio, *large])
    heads = ("arm", "large bodies", "p50", "p99", "p99 by that without", "bodies", "s/body, p50")
    size = f"{figures.large_bytes / 1e6:.0f} MB"
    title = f"JSON replies to 2 KB at {figures.rate:.0f}/s without and beside bodies of {size}, TTFB ms"
    return [Table(title, heads, rows)]
