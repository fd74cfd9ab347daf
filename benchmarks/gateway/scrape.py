"""Part ``scrape``: what reading the metrics pages of many endpoints costs, and how old their values get.

The model servers write their clock into a gauge of the page. What `/debug/state` shows of that gauge at a random
moment, taken off the moment at which the answer arrived, is the true age of what the picker knows: with the time on the
way, reading and publishing. CPU is measured in other windows than ages, because showing the state costs CPU too.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.fast_server import page_age
from benchmarks.gateway.arms import ENVOY, GATEWAY, PICKER, Arm, Arms, Use, UseMeter, open_arms
from benchmarks.gateway.background import TURN_BUSY_SECONDS, TURN_IDLE_SECONDS, open_quiet_streams
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate
from benchmarks.processes import open_stage
from benchmarks.quantiles import quantile
from igw.picker_state import EndpointState

CORES_LIMIT: Final = 0.1
AGE_LIMIT_SECONDS: Final = 1.0

_BUSY_SHARE: Final = 0.2
_MEAN_GAP_SECONDS: Final = 0.15
_KNOWN_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Ages:
    """How old values were, over endpoints and random moments; seconds.

    Attributes:
        samples: Endpoints times moments.
        p50: Median.
        p95: 95th percentile.
        most: The oldest.
        stated_p95: The 95th percentile by what the picker itself says of their ages.
        unknown: Share of samples of which the picker had no reading.
    """

    samples: int
    p50: float
    p95: float
    most: float
    stated_p95: float
    unknown: float


@dataclass(frozen=True, slots=True)
class Round:
    """All endpoints idle, then some of them busy."""

    idle_use: Use
    idle_ages: Ages
    busy_endpoints: int
    busy_use: Use
    busy_ages: Ages
    others_ages: Ages


@dataclass(frozen=True, slots=True)
class Figures:
    """What the part measured; errors are not possible: no request of it is counted."""

    endpoints: int
    rounds: tuple[Round, ...]
    errors: tuple[str, ...] = ()


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    return 5 + plan.passes * (4 * plan.seconds + 5)


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Measure idle and busy endpoints in turn."""
    moments = random.Random(plan.seed)
    rounds = []
    errors: list[str] = []
    async with open_stage(plan.envoy) as stage, open_arms(stage, plan.scraped_endpoints, names=(GATEWAY,)) as arms:
        arm = arms.by_name[GATEWAY]
        await _all_known(arm)
        for number in range(plan.passes):
            progress.step(number, plan.passes, "rounds")
            await asyncio.sleep(TURN_IDLE_SECONDS)
            idle_use = await _use(arms, plan.seconds)
            idle = await _look(arm, plan.seconds, moments)
            async with asyncio.TaskGroup() as group:
                streams = await open_quiet_streams(arms, group, max(1, round(plan.scraped_endpoints * _BUSY_SHARE)))
                try:
                    await asyncio.sleep(TURN_BUSY_SECONDS)
                    busy_use = await _use(arms, plan.seconds)
                    mixed = await _look(arm, plan.seconds, moments)
                finally:
                    await arms.release()
            errors += [stream.result().error for stream in streams if stream.result().error]
            busy = [(endpoint, at) for endpoint, at in mixed if endpoint.in_flight]
            others = [(endpoint, at) for endpoint, at in mixed if not endpoint.in_flight]
            names = {endpoint.address for endpoint, _ in busy}
            rounds.append(Round(idle_use, _ages(idle), len(names), busy_use, _ages(busy), _ages(others)))
    return Figures(plan.scraped_endpoints, tuple(rounds), tuple(errors))


async def _all_known(arm: Arm) -> None:
    async with asyncio.timeout(_KNOWN_SECONDS):
        while not all(endpoint.metrics for endpoint in (await arm.state()).endpoints):  # noqa: ASYNC110 - it is elsewhere
            await asyncio.sleep(_POLL_SECONDS)


async def _use(arms: Arms, seconds: float) -> Use:
    meter = UseMeter(arms, GATEWAY)
    await meter.begin()
    await asyncio.sleep(seconds)
    return await meter.use()


async def _look(arm: Arm, seconds: float, moments: random.Random) -> list[tuple[EndpointState, float]]:
    """Return every endpoint at random moments with the moment."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(moments.expovariate(1 / _MEAN_GAP_SECONDS))
        state = await arm.state()
        now = time.monotonic()
        found += [(endpoint, now) for endpoint in state.endpoints]
    return found


def _ages(seen: list[tuple[EndpointState, float]]) -> Ages:
    known = [(endpoint.metrics, at) for endpoint, at in seen if endpoint.metrics is not None]
    true = sorted(page_age(m.kv_cache_utilization, at) for m, at in known if m.kv_cache_utilization is not None)
    stated = sorted(m.age_seconds for m, _ in known if m.age_seconds is not None)
    return Ages(
        len(seen),
        quantile(true, 0.5),
        quantile(true, 0.95),
        quantile(true, 1.0),
        quantile(stated, 0.95),
        1 - len(true) / max(1, len(seen)),
    )


def _cores(uses: list[Use], process: str) -> Estimate:
    return Estimate.of([use.cpu_seconds[process] / use.seconds for use in uses])


def bars(figures: Figures) -> list[Bar]:
    """Return the bars on CPU and age."""
    rounds = figures.rounds
    idle = _cores([one.idle_use for one in rounds], PICKER)
    age = Estimate.of([one.idle_ages.p95 for one in rounds])
    fresher = Estimate.of([one.busy_ages.p95 for one in rounds])
    name = f"{figures.endpoints} idle endpoints"
    return [
        Bar(f"picker, {name}", CORES_LIMIT, idle, "gross CPU per second, no requests", "cores", 3),
        Bar(f"age at p95, {name}", AGE_LIMIT_SECONDS, age, "server's clock in the gauge", "s", 3),
        Bar("age at p95, busy endpoints", age.median, fresher, "less than that of idle ones", "s", 3),
    ]


def tables(figures: Figures) -> list[Table]:
    """Return CPU and ages."""
    rounds = figures.rounds
    busy = max((one.busy_endpoints for one in rounds), default=0)
    kinds = (
        (f"{figures.endpoints} idle", [one.idle_use for one in rounds]),
        (f"{busy} busy, {figures.endpoints - busy} idle", [one.busy_use for one in rounds]),
    )
    rows = [
        (
            name,
            Estimate.of([use.pages / use.seconds for use in uses]).text(1),
            _cores(uses, PICKER).text(4),
            Estimate.of([use.cpu_seconds[PICKER] / max(1, use.pages) for use in uses]).text(2, 1000),
            _cores(uses, ENVOY).text(4),
        )
        for name, uses in kinds
    ]
    ages = (
        (f"idle, {figures.endpoints} idle", [one.idle_ages for one in rounds]),
        ("busy", [one.busy_ages for one in rounds]),
        (f"idle, {busy} busy beside them", [one.others_ages for one in rounds]),
    )
    age_rows = [
        (
            name,
            str(sum(one.samples for one in found)),
            *(
                Estimate.of([getattr(one, figure) for one in found]).text(3)
                for figure in ("p50", "p95", "most", "stated_p95", "unknown")
            ),
        )
        for name, found in ages
    ]
    heads = ("endpoints", "samples", "p50", "p95", "oldest", "p95 as the picker says", "share unknown")
    return [
        Table("Reading metrics pages", ("endpoints", "pages/s", "picker, cores", "ms/page", "Envoy, cores"), rows),
        Table("Age of what the picker knows, s", heads, age_rows),
    ]
