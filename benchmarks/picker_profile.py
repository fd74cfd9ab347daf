"""``profile``: where the picker's CPU time goes under a bounded load, by function.

The picker samples its own stack per slice of CPU time (`profiled_picker`). A function's share of the samples times the
measured CPU per request is its cost. What lies outside Python functions (event loop, gRPC, its threads) is shown as the
function that runs the loop.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.closed_loop import closed_loop
from benchmarks.cpu_clock import cpu_seconds
from benchmarks.lean_client import LeanClient
from benchmarks.processes import open_stage
from benchmarks.text_table import table
from benchmarks.workloads import BY_NAME
from igw.errors import CommandFailed

Stacks: TypeAlias = list[tuple[list[str], int]]
"""Stacks of functions, the outermost first, and how often each was seen."""

_WARM_UP_SECONDS: Final = 1.0
_AFTER_WARM_UP: Final = 1_000_000
_SETTLE_SECONDS: Final = 0.2
_WRITE_SECONDS: Final = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--workload", choices=list(BY_NAME), default="stream16-2k", help="what is asked")
    parser.add_argument("--concurrency", type=int, default=16, help="clients at once")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the load")
    parser.add_argument("--endpoints", type=int, default=8, help="model servers of the pool")
    parser.add_argument("--top", type=int, default=40, help="functions to list")
    parser.add_argument("--gap-ms", type=float, default=2.0, help="time between two events of a stream")


async def run(options: argparse.Namespace) -> int:
    """Profile, print and write; return the number of failed requests."""
    workload = BY_NAME[options.workload]
    async with open_stage(options.envoy) as stage:
        servers = await stage.fast_servers(options.endpoints, gap_ms=options.gap_ms)
        target = stage.folder / "stacks.json"
        gateway = await stage.gateway(servers, module=("benchmarks.profiled_picker", str(target)))
        pid = gateway.pids["picker"]
        async with LeanClient(gateway.listen) as client:
            await closed_loop(client, workload, concurrency=4, seconds=_WARM_UP_SECONDS)
            os.kill(pid, signal.SIGUSR1)
            before = cpu_seconds(pid)
            exchanges = await closed_loop(
                client,
                workload,
                concurrency=options.concurrency,
                seconds=options.seconds,
                first=_AFTER_WARM_UP,
            )
        await asyncio.sleep(_SETTLE_SECONDS)
        used = cpu_seconds(pid) - before
        os.kill(pid, signal.SIGUSR2)
        stacks = await _written(target)
    failed = [e for e in exchanges if e.error]
    samples = sum(count for _, count in stacks)
    per_sample = used / max(1, samples) / max(1, len(exchanges))
    print(f"{workload.name} c={options.concurrency}: {len(exchanges)} requests, {len(failed)} failed")
    print(f"picker: {used / max(1, len(exchanges)) * 1000:.2f} ms CPU per request, {samples} samples\n")
    for title, counted in (("own time", own_samples(stacks)), ("with callees", total_samples(stacks))):
        rows = [
            (place[-100:], f"{count * per_sample * 1e6:.0f}", f"{count / max(1, samples):.1%}")
            for place, count in counted.most_common(options.top)
        ]
        print(f"by {title}:\n{table(('function', 'us/request', 'share'), rows)}\n")
    if options.output is not None:
        options.output.write_text(json.dumps(stacks), encoding="utf-8")
        print(f"written: {options.output}")
    return len(failed)


async def _written(target: Path) -> Stacks:
    deadline = time.monotonic() + _WRITE_SECONDS
    while (stacks := _read(target)) is None:
        if time.monotonic() > deadline:
            msg = "the picker did not write its profile"
            raise CommandFailed(msg)
        await asyncio.sleep(_SETTLE_SECONDS)
    return stacks


def _read(target: Path) -> Stacks | None:
    """Return the stacks once the file is there."""
    try:
        return [(stack, count) for stack, count in json.loads(target.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return None


def own_samples(stacks: Stacks) -> Counter[str]:
    """Return how often each function was the innermost."""
    found: Counter[str] = Counter()
    for stack, count in stacks:
        found[stack[-1]] += count
    return found


def total_samples(stacks: Stacks) -> Counter[str]:
    """Return how often each function was on the stack; recursion counts once."""
    found: Counter[str] = Counter()
    for stack, count in stacks:
        for place in set(stack):
            found[place] += count
    return found
