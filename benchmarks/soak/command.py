"""``soak``: a mixed load of official SDK clients and random faults for half an hour.

The gateway runs as ``igw up`` with simulated model servers, each a process of its own. Nothing may be lost: an answer
that the SDK's default two retries do not recover, a stream that is cut although neither Envoy nor its model server was
struck, a stream that ends early without an error. Every fault has to be recovered from, memory and open files have to
stay bounded, and at the end no request may be left in the books and no process behind.
"""

import argparse
import asyncio
import contextlib
import random
import signal
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.results import write_results
from benchmarks.soak.clients import Load
from benchmarks.soak.faults import FAULTS, NotRecovered, Strike, breaks_of
from benchmarks.soak.history import Fault, History
from benchmarks.soak.report import markdown, summary
from benchmarks.soak.samples import Samples
from benchmarks.soak.site import Site, open_site
from igw.errors import BadInput
from igw.runtime_folder import RuntimeFolder

_PROGRESS_SECONDS: Final = 30.0
_SAMPLE_SECONDS: Final = 5.0
_PROBE_SECONDS: Final = 30.0
_RECOVERY_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the soak."""
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load lasts (30)")
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second on average (5)")
    parser.add_argument("--servers", type=int, default=4, help="simulated model servers (4)")
    parser.add_argument("--seed", type=int, help="of load and faults; a random one, which is printed, without it")
    parser.add_argument("--pause", type=float, default=8.0, help="seconds between two faults on average (8)")
    parser.add_argument("--fault", action="append", metavar="NAME", help="only these faults; repeatable")
    parser.add_argument("--report", type=Path, metavar="FILE", help="file for the result as Markdown")


async def run(options: argparse.Namespace) -> int:
    """Soak, print and write; return the number of violations."""
    names = options.fault or list(FAULTS)
    if unknown := sorted(set(names) - set(FAULTS)):
        msg = f"unknown fault {unknown[0]!r}; known: {', '.join(FAULTS)}"
        raise BadInput(msg)
    if options.servers < 2:
        msg = "--servers must be at least 2: the load has to go somewhere while one is down"
        raise BadInput(msg)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"soak: {options.minutes:g} minutes, {options.rate:g} requests/s, seed {seed}", flush=True)
    history, samples = History(), Samples()
    with RuntimeFolder() as folder:
        async with open_site(folder, options.servers, options.envoy) as site:
            soak = _Soak(site, history, samples, names, seed, options)
            began = time.monotonic()
            violations = await soak.run()
            seconds = time.monotonic() - began
    violations = [*history.violations(), *(p for life in samples.lives for p in life.problems()), *violations]
    figures = summary(history, samples, violations, seconds=seconds, seed=seed)
    text = markdown(figures)
    print(text)
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text, encoding="utf-8")
    details = {"faults": [asdict(fault) | {"breaks": sorted(fault.breaks)} for fault in history.faults]}
    lives = {"processes": [asdict(life) for life in samples.lives]}
    write_results(options.output, "soak", vars(options) | {"seed": seed}, {**figures, **details, **lives})
    return len(violations)


class _Soak:
    """One run: load, faults, samples and progress beside each other, then the closing of the books."""

    def __init__(
        self,
        site: Site,
        history: History,
        samples: Samples,
        names: list[str],
        seed: int,
        options: argparse.Namespace,
    ) -> None:
        self._site = site
        self._history = history
        self._samples = samples
        self._names = names
        self._options = options
        self._chance = random.Random(seed)
        self._load = Load(f"{site.url}/v1", options.rate, random.Random(seed + 1), history)
        self._began = time.monotonic()

    async def run(self) -> list[str]:
        """Return what was wrong at the end; all else is in the history."""
        seconds = self._options.minutes * 60.0
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(self._watch()), group.create_task(self._report())]
            async with self._load:
                striking = group.create_task(self._strike_until(time.monotonic() + seconds))
                await striking
            for task in watching:
                task.cancel()
        return [*await self._settle(), *await self._end()]

    # -- faults -----------------------------------------------------------------------------------------------------

    async def _strike_until(self, end: float) -> None:
        await asyncio.sleep(min(3.0, end - time.monotonic()))
        weights = [FAULTS[name][0] for name in self._names]
        while time.monotonic() < end:
            # Each of the chosen faults once, if there is time for all of them, and then as chance has it.
            missing = [name for name in self._names if name not in {fault.name for fault in self._history.faults}]
            name = self._chance.choice(missing) if missing else self._chance.choices(self._names, weights)[0]
            await self._strike(name)
            pause = self._chance.uniform(0.5, 1.5) * self._options.pause
            await asyncio.sleep(max(0.0, min(pause, end - time.monotonic())))

    async def _strike(self, name: str) -> None:
        server = self._chance.choice(self._site.servers)
        await self._site.find_picker()
        at = "" if FAULTS[name][1] == "gateway" or not name.startswith("server") else server.name
        fault = Fault(name, at, breaks_of(name, server), time.monotonic())
        self._history.faults.append(fault)
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(self._probe(fault))
            try:
                await FAULTS[name][2](Strike(self._site, self._chance, server, fault))
            except (NotRecovered, OSError, KeyError) as problem:
                fault.problem = f"{type(problem).__name__}: {problem}"
            fault.over = time.monotonic()
            try:
                async with asyncio.timeout(_RECOVERY_SECONDS):
                    await probing
            except TimeoutError:
                fault.problem = fault.problem or f"no answer within {_RECOVERY_SECONDS:g} s after it was over"
        back = "" if fault.back_after is None else f", process back after {fault.back_after:.1f} s"
        answered = "never" if fault.answered_after is None else f"{fault.answered_after:.1f} s"
        self._say(f"{name} {at}: answered after {answered}{back} {fault.problem}".rstrip())

    async def _probe(self, fault: Fault) -> None:
        """Note when a client that does not try again gets an answer to what it asked after the strike."""
        while fault.answered_after is None:
            if await self._site.answers(seconds=_PROBE_SECONDS):
                fault.answered_after = time.monotonic() - fault.struck
            else:
                await asyncio.sleep(0.05)

    # -- watching ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            self._samples.take(self._site.pids())
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            done = len(self._history.requests)
            bad = len(self._history.violations())
            faults = len(self._history.faults)
            self._say(f"{done} requests ended, {self._load.under_way} under way, {faults} faults, {bad} bad")

    def _say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._began)
        print(f"  {seconds // 60:3}:{seconds % 60:02}  {text}", flush=True)

    # -- the end ----------------------------------------------------------------------------------------------------

    async def _settle(self) -> list[str]:
        """Wait until no request is in anybody's books; return what is wrong then."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        state: dict[str, object] = {}
        while time.monotonic() < deadline:
            state = await self._site.state()
            if state and state["in_flight"] == 0:
                break
            await asyncio.sleep(0.5)
        found = []
        if not state or state["in_flight"] != 0:
            found.append(f"the ledger holds {state.get('in_flight', 'unknown')} requests after {_SETTLE_SECONDS:g} s")
        pools = state.get("pools", [])
        assert isinstance(pools, list)
        if [len(pool["endpoints"]) for pool in pools] != [len(self._site.servers)]:
            found.append(f"the pools at the end: {pools}")
        if left := [e["address"] for pool in pools for e in pool["endpoints"] if e["in_flight"]]:
            found.append(f"requests left on endpoints: {left}")
        self._samples.take(self._site.pids())
        return found

    async def _end(self) -> list[str]:
        """Stop the gateway; return what is wrong with that."""
        children = self._site.descendants()
        self._site.process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                code = await self._site.process.wait()
        except TimeoutError:
            return [f"igw up did not end within {_STOP_SECONDS:g} s"]
        found = [f"igw up ended with exit code {code}"] if code else []
        found += [f"a process is left: {command}" for pid, command in children.items() if _runs(pid)]
        for url in (self._site.url, self._site.admin):
            port = int(url.rpartition(":")[2])
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                found.append(f"somebody still listens on port {port}")
        return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
