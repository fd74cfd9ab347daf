"""Passes of requests through all arms in turn, and what they used.

A pass is a fixed number of requests, the same for all arms, and ends when the last answer has been read and logged: no
request is half in it. Passes of all loads go round and round in random order, arms in random order within a load, so a
machine that changes over the run touches all alike. Windows without requests are part of every round.
"""

import asyncio
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.client import Exchange
from benchmarks.closed_loop import closed_loop
from benchmarks.gateway.arms import ALONE, GATEWAY, Arm, Arms, Use, UseMeter
from benchmarks.gateway.background import Background, Window, busy_window, fit, idle_window
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.quantiles import Summary
from benchmarks.steady_loop import steady_loop
from benchmarks.workloads import Workload

SETTLE_SECONDS: Final = 0.15
"""The access log follows the answer."""

_LEAST_ROUNDS: Final = 2
_LEAST_REQUESTS: Final = 4
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
class Load:
    """One kind of request from so many clients or at such a rate, and its passes by arm.

    Attributes:
        workload: What is asked.
        concurrency: Clients that each send the next request when the last was answered; 0: requests come at a rate.
        rate: Requests per second that come at random moments, answered or not; 0: there are clients.
        requests: Requests of a pass.
        passes: By arm, in the order of rounds, so that those of one round are at the same place.
    """

    workload: Workload
    concurrency: int
    rate: float = 0.0
    requests: int = 0
    passes: dict[str, list[Pass]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.workload.name} " + (f"c={self.concurrency}" if self.concurrency else f"{self.rate:.0f}/s")

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
        return [one.requests / (one.use.seconds - SETTLE_SECONDS) for one in self.passes[arm]]


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What was measured: loads, and windows without requests among them."""

    loads: tuple[Load, ...]
    windows: tuple[Window, ...]

    @property
    def background(self) -> dict[str, Background]:
        """What each arm uses without requests."""
        return {arm: fit(self.windows, arm) for load in self.loads for arm in load.passes}

    @property
    def errors(self) -> list[str]:
        """What failed, over all loads."""
        passes = [one for load in self.loads for of_arm in load.passes.values() for one in of_arm]
        return [error for one in passes for error in one.errors]


async def capacity(arm: Arm, workload: Workload, *, concurrency: int, seconds: float) -> float:
    """Return how many requests per second *concurrency* clients get answered; it also warms everything up."""
    began = time.perf_counter()
    found = await closed_loop(arm.client, workload, concurrency=concurrency, seconds=seconds)
    return len(found) / (time.perf_counter() - began)


def requests_of_a_pass(rate: float, concurrency: int, seconds: float) -> int:
    """Return how many requests take about *seconds*: several for each client."""
    rounds = max(_LEAST_ROUNDS, math.ceil(rate * seconds / max(1, concurrency)))
    return max(_LEAST_REQUESTS, rounds * max(1, concurrency))


async def run_rounds(loads: Sequence[Load], arms: Arms, plan: Plan, progress: Progress) -> LoadFigures:
    """Measure every load with every arm as often as planned, and what happens without requests."""
    order = random.Random(plan.seed)
    windows: list[Window] = []
    names = tuple(arms.by_name)
    steps = (len(loads) + 2) * plan.passes
    done, first = 0, _NUMBERS_PER_PASS
    for _ in range(plan.passes):
        # Two of the steps of a round are windows: without requests, and with quiet streams.
        things: list[Load | bool] = [*loads, False, True]
        for thing in order.sample(things, len(things)):
            progress.step(done, steps, thing.name if isinstance(thing, Load) else "without requests")
            if isinstance(thing, Load):
                for name in order.sample(names, len(names)):
                    thing.passes.setdefault(name, []).append(await _pass(thing, arms, name, first, plan))
                first += _NUMBERS_PER_PASS
            else:
                window = busy_window if thing else idle_window
                windows.append(await window(arms, max(1.0, plan.seconds)))
            done += 1
    return LoadFigures(tuple(loads), tuple(windows))


async def _pass(load: Load, arms: Arms, name: str, first: int, plan: Plan) -> Pass:
    meter = UseMeter(arms, name)
    await meter.begin()
    exchanges = await _send(load, arms.by_name[name], first, plan)
    await asyncio.sleep(SETTLE_SECONDS)
    use = await meter.use()
    good = [e.ttft_seconds for e in exchanges if not e.error]
    return Pass(len(exchanges), tuple(e.error for e in exchanges if e.error), use, Summary.of(good))


async def _send(load: Load, arm: Arm, first: int, plan: Plan) -> list[Exchange]:
    if not load.concurrency:
        # The number of the first request is that of the round, so that all arms see the same moments.
        return await steady_loop(
            arm.client, load.workload, rate=load.rate, requests=load.requests, first=first, seed=plan.seed + first
        )
    return await closed_loop(
        arm.client,
        load.workload,
        concurrency=load.concurrency,
        requests=load.requests,
        first=first,
        spread_seconds=load.workload.events * plan.gap_ms / 1000,
    )
