"""``soak``: mixed load with random faults for half an hour.

Clients of the official SDK with its default retries, and some that leave, dawdle or send nonsense, ask `igw up` with
simulated model servers behind it, while picker, Envoy and servers are killed, stopped and misled at random moments.

It fails when a request was lost: when the SDK's retries did not recover it, or an answer was cut although neither its
model server nor Envoy was struck at that moment; when something stays in flight; or when memory or open files of a
process grow without bound.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.results import write_results
from benchmarks.soak.faults import Faults, Struck
from benchmarks.soak.load import Clients, Loss, Outcomes
from benchmarks.soak.site import Site
from benchmarks.text_table import table

_SAMPLE_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 30.0
_CUTTING: Final = ("envoy", "model server")
_CUT_AFTER_SECONDS: Final = 30.0
_MIB: Final = 1024 * 1024
_GROWTH_LIMIT: Final = 1.3
_FILES_SPARE: Final = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    at: float
    name: str
    pid: int
    resident_bytes: int
    open_files: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the soak."""
    parser.add_argument("--minutes", type=float, default=30.0, help="length (30)")
    parser.add_argument("--clients", type=int, default=12, help="clients at once (12)")
    parser.add_argument("--servers", type=int, default=4, help="simulated model servers (4)")
    parser.add_argument("--seed", type=int, default=1, help="of load and faults")


async def run(options: argparse.Namespace) -> int:
    """Soak, print and write; return the number of violations."""
    with tempfile.TemporaryDirectory(prefix="igw-soak-") as name:
        folder = Path(name)
        async with Site(folder, options.servers) as site:
            return await _soak(options, site, folder)


async def _soak(options: argparse.Namespace, site: Site, folder: Path) -> int:
    started, stop = time.monotonic(), asyncio.Event()
    outcomes, samples = Outcomes(), list[Sample]()
    clients = Clients(site.url, outcomes, options.seed, started)
    faults = Faults(site, options.seed + 1, started)
    print(f"soak: {options.minutes:g} min, {options.clients} clients, {options.servers} servers, seed {options.seed}")
    async with asyncio.TaskGroup() as group:
        for _ in range(options.clients):
            group.create_task(clients.run(stop))
        group.create_task(faults.run(stop))
        end = started + options.minutes * 60
        while time.monotonic() < end:
            await asyncio.sleep(min(_SAMPLE_SECONDS, max(0.1, end - time.monotonic())))
            now = time.monotonic() - started
            samples += [Sample(now, name, *size) for name, size in site.sizes().items()]
            if len(samples) % 3 == 0 or now < 2 * _SAMPLE_SECONDS:
                _report_progress(now, outcomes, faults.struck, samples)
        stop.set()
    await clients.close()
    left = await _left_in_flight(site)
    lost = [loss for loss in outcomes.losses if not _explained(loss, faults.struck)]
    grown = _growth(samples)
    problems = [f"lost: {loss}" for loss in lost[:20]]
    if left:
        problems.append(f"{left} requests stayed in flight")
    problems += [text for text, bad in grown if bad]
    print(_tables(outcomes, faults.struck, grown, len(lost)))
    for problem in problems:
        print(f"VIOLATION {problem}")
    if problems:
        print((folder / "igw.log").read_text(errors="replace")[-3000:])
    figures = {
        "counts": dict(outcomes.counts),
        "losses": [asdict(loss) for loss in outcomes.losses],
        "lost": len(lost),
        "faults": [asdict(struck) for struck in faults.struck],
        "in_flight_at_the_end": left,
        "samples": [asdict(sample) for sample in samples],
        "violations": problems,
    }
    write_results(options.output, "soak", vars(options), figures)
    print(f"soak: {sum(outcomes.counts.values())} requests, {len(faults.struck)} faults, {len(problems)} violations")
    return len(problems)


def _report_progress(now: float, outcomes: Outcomes, struck: Sequence[Struck], samples: Sequence[Sample]) -> None:
    latest = {sample.name: sample for sample in samples}
    sizes = ", ".join(f"{n} {s.resident_bytes // _MIB} MiB {s.open_files} files" for n, s in latest.items())
    total, odd = sum(outcomes.counts.values()), len(outcomes.losses)
    print(f"[{now / 60:5.1f} min] {total} requests, {odd} failed or cut, {len(struck)} faults; {sizes}", flush=True)


def _explained(loss: Loss, struck: Sequence[Struck]) -> bool:
    """Return whether an answer that had begun was cut by the death or silence of what carried it."""
    return loss.begun and any(
        any(part in fault.kind for part in _CUTTING) and fault.at - 1 <= loss.at <= fault.until + _CUT_AFTER_SECONDS
        for fault in struck
    )


async def _left_in_flight(site: Site) -> int:
    """Return what the ledger still holds when nothing is under way; -1: the picker does not say."""
    deadline, left = time.monotonic() + _SETTLE_SECONDS, -1
    while time.monotonic() < deadline:
        page = await site.page("/debug/state")
        if page is not None and not (left := int(json.loads(page)["in_flight"])):
            return 0
        await asyncio.sleep(0.5)
    return left


def _growth(samples: Sequence[Sample]) -> list[tuple[str, bool]]:
    """Return a line for each process that lived for long enough, and whether it grew too much."""
    lives: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.name, sample.pid].append(sample)
    lines = []
    for (name, pid), life in lives.items():
        if len(life) < 12:
            continue
        third = len(life) // 3
        early, late = life[third : 2 * third], life[2 * third :]
        before, after = (median(s.resident_bytes for s in part) for part in (early, late))
        files_before, files_after = (median(s.open_files for s in part) for part in (early, late))
        bad = after > before * _GROWTH_LIMIT or files_after > files_before * _GROWTH_LIMIT + _FILES_SPARE
        minutes = (life[-1].at - life[0].at) / 60
        most_memory, most_files = max(s.resident_bytes for s in life), max(s.open_files for s in life)
        line = f"{name} ({pid}, {minutes:.1f} min): {before / _MIB:.0f} to {after / _MIB:.0f} MiB,"
        line += f" {files_before:.0f} to {files_after:.0f} files"
        line += f", at most {most_memory / _MIB:.0f} MiB and {most_files} files"
        lines.append((line, bad))
    return lines


def _tables(outcomes: Outcomes, struck: Sequence[Struck], grown: Sequence[tuple[str, bool]], lost: int) -> str:
    rows = [(kind, str(count)) for kind, count in sorted(outcomes.counts.items())]
    away: dict[str, list[float]] = defaultdict(list)
    for fault in struck:
        away[fault.kind].append(fault.away_seconds)
    times = [(k, str(len(v)), f"{median(v):.2f}", f"{max(v):.2f}") for k, v in sorted(away.items())]
    parts = [
        "Requests\n" + table(("kind and outcome", "count"), rows),
        "Faults, and for how long a request without retries failed after them, s\n"
        + table(("fault", "times", "median", "most"), times),
        "Memory and open files, middle to last third of a process's life\n" + "\n".join(line for line, _ in grown),
        f"lost: {lost}",
    ]
    return "\n\n".join(["", *parts, ""])
