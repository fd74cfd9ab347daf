"""The faults of a soak: what is killed, stopped, broken or moved about, for how long, and what it may cost."""

import asyncio
import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.soak.clients import MODEL
from benchmarks.soak.history import ENVOY, Fault
from benchmarks.soak.site import ModelServer, Site, manifest_text

_NAMES: Final = {"picker": "endpoint picker", "envoy": "envoy"}
_BACK_SECONDS: Final = 60.0
_EDIT_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05


class NotRecovered(Exception):
    """Something did not come back as it should."""


@dataclass(slots=True)
class Strike:
    """One fault under way.

    Attributes:
        site: What it strikes.
        chance: Decides what the plan leaves open.
        server: The model server it is aimed at.
        fault: Its record.
    """

    site: Site
    chance: random.Random
    server: ModelServer
    fault: Fault

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        """Wait until something holds; NotRecovered when it does not in time."""
        deadline = time.monotonic() + seconds
        while not await holds():
            if time.monotonic() > deadline:
                msg = f"{what} within {seconds:g} s"
                raise NotRecovered(msg)
            await asyncio.sleep(_POLL_SECONDS)

    async def signal_children(self, number: signal.Signals, *names: str) -> None:
        """Send a signal to children of ``igw up`` that ends them sooner or later, and wait for their successors."""
        before = {name: self.site.returned.get(_NAMES[name], 0) for name in names}
        pids = self.site.pids()
        for name in names:
            os.kill(pids[name], number)

        async def back() -> bool:
            return all(self.site.returned.get(_NAMES[name], 0) > count for name, count in before.items())

        await self.until(back, _BACK_SECONDS, f"{' and '.join(names)} did not come back")
        self.fault.back_after = time.monotonic() - self.fault.struck
        await self.site.find_picker()

    async def pause(self, pid: int, seconds: float) -> None:
        """Stop a process for a moment."""
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def accepted(self, *, models: int) -> None:
        """Wait until the picker serves the manifests with so many models."""

        async def so() -> bool:
            state = await self.site.state()
            return bool(state) and state["configuration"]["accepted"] and len(state["models"]) == models

        await self.until(so, _EDIT_SECONDS, "the manifests were not taken over")

    async def refused(self) -> None:
        """Wait until the picker says that the manifests cannot be used."""

        async def so() -> bool:
            state = await self.site.state()
            return bool(state) and not state["configuration"]["accepted"]

        await self.until(so, _EDIT_SECONDS, "broken manifests were not refused")


# -- the gateway's own processes --------------------------------------------------------------------------------------


async def _picker_killed(strike: Strike) -> None:
    await strike.signal_children(signal.SIGKILL, "picker")


async def _picker_stopped(strike: Strike) -> None:
    await strike.signal_children(signal.SIGSTOP, "picker")


async def _picker_paused(strike: Strike) -> None:
    await strike.pause(strike.site.pids()["picker"], strike.chance.uniform(0.5, 3.0))


async def _picker_killed_twice(strike: Strike) -> None:
    await strike.signal_children(signal.SIGKILL, "picker")
    await asyncio.sleep(strike.chance.uniform(0.0, 1.0))
    await strike.signal_children(signal.SIGKILL, "picker")


async def _reserve_killed(strike: Strike) -> None:
    pids = strike.site.pids()
    for name in ("picker in reserve", "picker"):
        if name in pids:
            os.kill(pids[name], signal.SIGSTOP if name == "picker" else signal.SIGKILL)
    os.kill(pids["picker"], signal.SIGCONT)
    await strike.signal_children(signal.SIGKILL, "picker")


async def _envoy_killed(strike: Strike) -> None:
    await strike.signal_children(signal.SIGKILL, "envoy")


async def _envoy_stopped(strike: Strike) -> None:
    await strike.signal_children(signal.SIGSTOP, "envoy")


async def _envoy_paused(strike: Strike) -> None:
    await strike.pause(strike.site.pids()["envoy"], strike.chance.uniform(0.5, 3.0))


async def _both_killed(strike: Strike) -> None:
    await strike.signal_children(signal.SIGKILL, "envoy", "picker")


async def _all_suspended(strike: Strike) -> None:
    """Stop the gateway as a whole and let it go on; what was silent for longer than its pool allows is cut."""
    pids = strike.site.pids()
    stopped = [pids[name] for name in ("igw up", "picker", "envoy")]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(strike.chance.uniform(4.0, 10.0))
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


# -- model servers ----------------------------------------------------------------------------------------------------


async def _server_killed(strike: Strike) -> None:
    restarts = strike.server.child.restarts
    os.kill(strike.server.pid, signal.SIGKILL)

    async def back() -> bool:
        return strike.server.child.restarts > restarts and strike.server.child.ready

    await strike.until(back, _BACK_SECONDS, "the model server did not come back")
    strike.fault.back_after = time.monotonic() - strike.fault.struck


async def _server_paused(strike: Strike) -> None:
    await strike.pause(strike.server.pid, strike.chance.uniform(1.0, 8.0))


def _with_fault(kind: str, **fields: object) -> Callable[[Strike], Awaitable[None]]:
    """Return the strike that gives a model server a fault for some seconds."""

    async def strike_so(strike: Strike) -> None:
        await strike.site.set_faults(strike.server, {"kind": kind, **fields})
        try:
            await asyncio.sleep(strike.chance.uniform(2.0, 8.0))
        finally:
            await strike.site.set_faults(strike.server)

    return strike_so


# -- configuration and endpoints --------------------------------------------------------------------------------------


async def _manifest_broken(strike: Strike) -> None:
    site = strike.site
    good = manifest_text(site.servers)
    kind = strike.chance.choice(("syntax", "schema", "half", "gone", "folder", "huge", "in place"))
    if kind == "gone":
        site.manifest.unlink()
    elif kind == "folder":
        site.manifest.unlink()
        site.manifest.mkdir()
    elif kind == "in place":
        with site.manifest.open("r+") as file:
            file.truncate(len(good) // 3)
            file.seek(len(good) // 3)
            file.write("\n  : [")
    else:
        broken = {
            "syntax": "kind: [",
            "schema": good.replace("targetPorts", "targetPort"),
            "half": good[: len(good) // 2] + "\n  - :[",
            "huge": "#" * 40_000_000,
        }[kind]
        site.write_manifest(broken)
    try:
        await strike.refused()
        await asyncio.sleep(strike.chance.uniform(0.0, 2.0))
    finally:
        if kind == "folder":
            site.manifest.rmdir()
        site.write_manifest(good)
    await strike.accepted(models=1)


async def _picker_killed_beside_broken_manifest(strike: Strike) -> None:
    strike.site.write_manifest("kind: [")
    try:
        await strike.refused()
        await strike.signal_children(signal.SIGKILL, "picker")
        await strike.refused()
    finally:
        strike.site.write_manifest(manifest_text(strike.site.servers))
    await strike.accepted(models=1)


async def _disk_full(strike: Strike) -> None:
    """Let the picker write no file for some seconds, with an edit meanwhile."""
    site = strike.site
    pid = site.pids()["picker"]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        site.write_manifest(manifest_text(site.servers, models=(MODEL, "another")))
        await strike.refused()
        await asyncio.sleep(strike.chance.uniform(0.0, 3.0))
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    await strike.accepted(models=2)
    site.write_manifest(manifest_text(site.servers))
    await strike.accepted(models=1)


async def _endpoints_churn(strike: Strike) -> None:
    """Add or remove an endpoint fifty times a second."""
    site = strike.site
    present = list(site.servers)
    over = time.monotonic() + 5.0
    while time.monotonic() < over:
        absent = [server for server in site.servers if server not in present]
        if absent and (len(present) == 1 or strike.chance.random() < 0.5):
            present.append(strike.chance.choice(absent))
        else:
            present.remove(strike.chance.choice(present))
        site.write_manifest(manifest_text(present))
        await asyncio.sleep(0.02)
    site.write_manifest(manifest_text(site.servers))

    async def all_there() -> bool:
        state = await site.state()
        return bool(state) and len(state["pools"][0]["endpoints"]) == len(site.servers)

    await strike.until(all_there, _EDIT_SECONDS, "endpoints are missing")


Kind = tuple[float, str, Callable[[Strike], Awaitable[None]]]
GATEWAY, SERVER, NOTHING = "gateway", "server", ""

FAULTS: Final[Mapping[str, Kind]] = {
    "picker killed": (4, NOTHING, _picker_killed),
    "picker stopped": (2, NOTHING, _picker_stopped),
    "picker paused": (2, NOTHING, _picker_paused),
    "picker killed twice": (2, NOTHING, _picker_killed_twice),
    "picker and its reserve killed": (1, NOTHING, _reserve_killed),
    "envoy killed": (3, GATEWAY, _envoy_killed),
    "envoy stopped": (2, GATEWAY, _envoy_stopped),
    "envoy paused": (2, NOTHING, _envoy_paused),
    "picker and envoy killed": (2, GATEWAY, _both_killed),
    "gateway suspended": (1, GATEWAY, _all_suspended),
    "server killed": (3, SERVER, _server_killed),
    "server paused": (3, SERVER, _server_paused),
    "server answers 503": (2, NOTHING, _with_fault("status", code=503)),
    "server answers 429 now and then": (1, NOTHING, _with_fault("status", code=429, probability=0.5)),
    "server stalls in prefill": (2, NOTHING, _with_fault("stall-prefill")),
    "server resets in prefill": (2, NOTHING, _with_fault("reset-prefill", probability=0.5)),
    "server refuses": (2, NOTHING, _with_fault("refuse")),
    "server cuts streams": (1, SERVER, _with_fault("cut-stream", tokens=5, probability=0.5)),
    "server stalls in streams": (1, SERVER, _with_fault("stall-stream", tokens=5, probability=0.3)),
    "server has no metrics": (1, NOTHING, _with_fault("metrics-absent")),
    "server has garbage for metrics": (1, NOTHING, _with_fault("metrics-garbage")),
    "server has slow metrics": (1, NOTHING, _with_fault("metrics-slow", seconds=10)),
    "server has huge metrics": (1, NOTHING, _with_fault("metrics-huge", size=20_000_000)),
    "manifest broken": (3, NOTHING, _manifest_broken),
    "picker killed beside a broken manifest": (2, NOTHING, _picker_killed_beside_broken_manifest),
    "disk full": (2, NOTHING, _disk_full),
    "endpoints churn": (2, NOTHING, _endpoints_churn),
}
"""Every fault: its weight, whose streams it may cut, and how it is done."""


def breaks_of(name: str, server: ModelServer) -> frozenset[str]:
    """Return what the fault *name* may cut when it is aimed at *server*."""
    match FAULTS[name][1]:
        case "gateway":
            return frozenset({ENVOY})
        case "server":
            return frozenset({server.name})
        case _:
            return frozenset()
