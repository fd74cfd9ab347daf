"""``profile``: where the picker's CPU time goes under a bounded load, by function.

The picker runs under the standard library's deterministic profiler. That inflates short Python functions, so read the
order, not the figures; the figures without a profiler are those of ``gateway``.
"""

import argparse
import asyncio
import pstats
import signal
from pathlib import Path
from typing import Final

from benchmarks.client import new_session
from benchmarks.closed_loop import closed_loop
from benchmarks.cpu_clock import cpu_seconds
from benchmarks.gateway_cost import WORKLOADS
from benchmarks.processes import open_stage, wait_for_end
from benchmarks.text_table import table

_WARM_UP_SECONDS: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    names = [w.name for w in WORKLOADS]
    parser.add_argument("--workload", choices=names, default="stream16-2k", help="what is asked")
    parser.add_argument("--concurrency", type=int, default=16, help="clients at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the load")
    parser.add_argument("--endpoints", type=int, default=8, help="model servers of the pool")
    parser.add_argument("--top", type=int, default=40, help="functions to list")
    parser.add_argument("--gap-ms", type=float, default=2.0, help="time between two events of a stream")


async def run(options: argparse.Namespace) -> int:
    """Profile, print and write; return the number of failed requests."""
    workload = next(w for w in WORKLOADS if w.name == options.workload)
    async with open_stage(options.envoy) as stage:
        servers = await stage.fast_servers(options.endpoints, gap_ms=options.gap_ms)
        target = stage.folder / "picker.pstats"
        gateway = await stage.gateway(servers, interpreter_arguments=("-m", "cProfile", "-o", str(target)))
        pid = gateway.pids["picker"]
        before = cpu_seconds(pid)
        async with new_session() as session:
            exchanges = await closed_loop(
                session, gateway.url, workload, concurrency=options.concurrency, seconds=options.seconds
            )
        await asyncio.sleep(0.2)
        used = cpu_seconds(pid) - before
        # A polite end lets the profiler write what it found.
        await wait_for_end(pid, signal.SIGTERM)
        statistics = pstats.Stats(str(target))
    failed = [e for e in exchanges if e.error]
    requests = len(exchanges)
    print(f"{workload.name} c={options.concurrency}: {requests} requests, {len(failed)} failed")
    print(f"picker under the profiler: {used / requests * 1000:.2f} ms CPU per request\n")
    for title, key in (("own time", 2), ("with callees", 3)):
        print(f"by {title}, microseconds per request:\n{_top(statistics, key, requests, options.top)}\n")
    if options.output is not None:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        statistics.dump_stats(options.output)
        print(f"written: {options.output} (read it with python -m pstats)")
    return len(failed)


def _top(statistics: pstats.Stats, key: int, requests: int, count: int) -> str:
    """Return the functions with the most time; *key* 2 is their own time, 3 includes what they call."""
    entries = statistics.stats  # type: ignore[attr-defined]  # the stubs leave out the documented-by-use attribute
    ordered = sorted(entries.items(), key=lambda item: item[1][key], reverse=True)[:count]
    rows = [
        (_place(*function), f"{calls / requests:.2f}", f"{own / requests * 1e6:.1f}", f"{total / requests * 1e6:.1f}")
        for function, (_, calls, own, total, _callers) in ordered
    ]
    return table(("function", "calls", "own", "total"), rows)


def _place(file: str, line: int, name: str) -> str:
    short = "/".join(Path(file).parts[-3:])
    return f"{short}:{line} {name}"[-90:] if file != "~" else name[:90]
