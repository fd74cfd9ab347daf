"""What the gateway uses without requests: reading metrics pages above all, more often while endpoints are busy.

A picker that reads pages does so whether requests come or not; gRPC and Envoy have timers of their own. While streams
are long few requests end per second, and each would carry a large share of it. So it is measured by itself: in windows
without any request, and in windows in which quiet streams are open at every endpoint, so that pages are read as often
as under load but nothing is decided. Both kinds together tell what a page and what a second cost. Of what a pass used,
the cost of its seconds and of the pages that were read in it is taken off.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.client import Exchange
from benchmarks.gateway.arms import ENVOY, GATEWAY, PICKER, Arms, Use, UseMeter
from benchmarks.workloads import SMALL_BYTES, Workload
from igw.errors import CommandFailed

_QUIET: Final = Workload("quiet", SMALL_BYTES, 2)
_STREAMS_PER_ENDPOINT: Final = 2
_MOST_STREAMS_PER_ENDPOINT: Final = 12
_OPEN_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05
# An idle endpoint is read once more before it is read as a busy one; the interval is a second and a tenth at most.
TURN_BUSY_SECONDS: Final = 1.2
TURN_IDLE_SECONDS: Final = 0.6


@dataclass(frozen=True, slots=True)
class Window:
    """A while without requests that begin or end.

    Attributes:
        busy: Whether a quiet stream through the gateway was open at every endpoint.
        uses: What each arm used.
    """

    busy: bool
    uses: Mapping[str, Use]


@dataclass(frozen=True, slots=True)
class Background:
    """What one arm uses by itself.

    Attributes:
        picker_per_second: CPU seconds of its picker per second, pages left out.
        picker_per_page: CPU seconds of its picker per metrics page; only the whole gateway reads any.
        envoy_per_second: CPU seconds of its Envoy per second.
    """

    picker_per_second: float = 0.0
    picker_per_page: float = 0.0
    envoy_per_second: float = 0.0

    def of(self, process: str, use: Use) -> float:
        """Return the part of *use* that would have been used without requests."""
        if process == PICKER:
            return self.picker_per_second * use.seconds + self.picker_per_page * use.pages
        return self.envoy_per_second * use.seconds if process == ENVOY else 0.0


def fit(windows: Sequence[Window], arm: str) -> Background:
    """Return the costs of a second and of a page that explain *windows* best (least squares, neither negative)."""
    uses = [window.uses[arm] for window in windows]
    if not uses:
        return Background()
    envoy = sum(u.cpu_seconds[ENVOY] for u in uses) / sum(u.seconds for u in uses)
    ss = sum(u.seconds * u.seconds for u in uses)
    cs = sum(u.cpu_seconds.get(PICKER, 0.0) * u.seconds for u in uses)
    if arm != GATEWAY:
        return Background(cs / ss, 0.0, envoy)
    sp = sum(u.seconds * u.pages for u in uses)
    pp = sum(u.pages * u.pages for u in uses)
    cp = sum(u.cpu_seconds[PICKER] * u.pages for u in uses)
    determinant = ss * pp - sp * sp
    per_second = (cs * pp - cp * sp) / determinant if determinant > 0 else -1.0
    per_page = (cp * ss - cs * sp) / determinant if determinant > 0 else -1.0
    if per_second < 0 and pp:
        per_second, per_page = 0.0, cp / pp
    elif per_page < 0 or not pp:
        per_second, per_page = cs / ss, 0.0
    return Background(per_second, per_page, envoy)


async def idle_window(arms: Arms, seconds: float) -> Window:
    """Measure the gateway while nothing is asked of it."""
    await asyncio.sleep(TURN_IDLE_SECONDS)
    return Window(busy=False, uses=await _watch(arms, seconds))


async def busy_window(arms: Arms, seconds: float) -> Window:
    """Measure the gateway while a quiet stream is open at every endpoint.

    Raises:
        CommandFailed: Streams do not reach every endpoint, or one failed.
    """
    arm = arms.by_name[GATEWAY]
    async with asyncio.TaskGroup() as group:
        streams = await open_quiet_streams(arms, group, len(arms.servers.addresses))
        try:
            await asyncio.sleep(TURN_BUSY_SECONDS)
            uses = await _watch(arms, seconds)
        finally:
            await arms.release()
    if failed := [stream.result().error for stream in streams if stream.result().error]:
        msg = f"a quiet stream through {arm.name} failed: {failed[0]}"
        raise CommandFailed(msg)
    return Window(busy=True, uses=uses)


async def open_quiet_streams(arms: Arms, group: asyncio.TaskGroup, busy: int) -> list[asyncio.Task[Exchange]]:
    """Open quiet streams through the gateway until *busy* endpoints have one; `Arms.release` ends them.

    Raises:
        CommandFailed: They do not get busy.
    """
    arm = arms.by_name[GATEWAY]
    bodies = _QUIET.bodies(0)
    streams: list[asyncio.Task[Exchange]] = []
    most = _MOST_STREAMS_PER_ENDPOINT * busy
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            while True:
                few = _STREAMS_PER_ENDPOINT * busy if not streams else 1
                for _ in range(few):
                    body = next(bodies).replace(b'"stream":true', b'"stream":true,"quiet":true')
                    streams.append(group.create_task(arm.client.chat(body, streaming=True)))
                placed = [0]
                while sum(placed) < len(streams):
                    await asyncio.sleep(_POLL_SECONDS)
                    placed = [endpoint.in_flight for endpoint in (await arm.state()).endpoints]
                if sum(1 for count in placed if count) >= busy:
                    return streams
                if len(streams) >= most:
                    break
    except TimeoutError:
        pass
    await arms.release()
    msg = f"{len(streams)} streams did not make {busy} endpoints busy"
    raise CommandFailed(msg)


async def _watch(arms: Arms, seconds: float) -> dict[str, Use]:
    meters = {name: UseMeter(arms, name) for name in arms.by_name}
    for meter in meters.values():
        await meter.begin()
    await asyncio.sleep(seconds)
    return {name: await meter.use() for name, meter in meters.items()}
