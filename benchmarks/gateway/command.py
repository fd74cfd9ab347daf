"""``gateway``: what the gateway costs, beside Envoy alone and beside a picker that only answers constants.

Parts: *cells*, CPU per request and added time to the first byte for every kind of request; *steady*, the same at a
moderate rate; *flat*, whether long streams cost more than short ones; *scrape*, what reading the metrics pages of many
idle endpoints costs and how old their values get; *throughput*, requests per second of one gateway; *mixed*, small
requests beside bodies of 30 MB; *memory*, whether it stays flat over 200,000 requests (takes about ten minutes, so only
when named). All ratios are of one run.
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.gateway.bars import BAR_HEADS, Bar
from benchmarks.gateway.parts import PARTS, USUAL
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.report import read_run, write_report
from benchmarks.results import write_results
from benchmarks.text_table import table
from benchmarks.workloads import BY_NAME, WORKLOADS
from igw.errors import BadInput

_QUICK: Final = frozenset({"json-2k", "json-100k", "stream16-2k", "stream512-2k"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    usual = ",".join(USUAL)
    parser.add_argument("--parts", default=usual, help=f"of {', '.join(PARTS)}; {usual} without it")
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder for a page and plots of this run")
    parser.add_argument("--quick", action="store_true", help="a smoke run of two minutes or so; its figures say little")
    parser.add_argument("--workload", action="append", choices=list(BY_NAME), help="only these cells; repeatable")
    parser.add_argument("--concurrency", type=int, action="append", help="clients at once; repeatable (1, 16, 64)")
    parser.add_argument("--passes", type=int, help="turns of each arm under each load (5; quick 1)")
    parser.add_argument("--seconds", type=float, help="about how long a turn lasts (2; quick 0.3)")
    parser.add_argument("--endpoints", type=int, default=8, help="model servers of the pool")
    parser.add_argument("--memory-requests", type=int, default=200_000, help="requests of the part memory")
    parser.add_argument("--gap-ms", type=float, default=2.0, help="time between two events of a stream")
    parser.add_argument("--seed", type=int, default=1, help="order of cells and arms")


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the options ask for."""
    names = options.workload or [w.name for w in WORKLOADS if not options.quick or w.name in _QUICK]
    return Plan(
        envoy=options.envoy,
        workloads=tuple(w for w in WORKLOADS if w.name in names),
        concurrency=tuple(options.concurrency or ((1, 16) if options.quick else (1, 16, 64))),
        passes=options.passes or (1 if options.quick else 5),
        seconds=options.seconds or (0.3 if options.quick else 2.0),
        endpoints=options.endpoints,
        memory_requests=options.memory_requests,
        gap_ms=options.gap_ms,
        seed=options.seed,
    )


def parts_of(text: str) -> list[str]:
    """Return the parts of a comma-separated list in the order in which they run.

    Raises:
        BadInput: One is unknown.
    """
    wanted = text.split(",")
    if unknown := sorted(set(wanted) - set(PARTS)):
        msg = f"--parts {text}: {', '.join(unknown)} unknown; known are {', '.join(PARTS)}"
        raise BadInput(msg)
    return [name for name in PARTS if name in wanted]


async def run(options: argparse.Namespace) -> int:
    """Measure, print and write; return the number of failed requests."""
    plan = plan_of(options)
    names = parts_of(options.parts)
    load_before = os.getloadavg()
    progress = Progress({name: PARTS[name].expected_seconds(plan) for name in names})
    figures: dict[str, Any] = {}
    for name in names:
        progress.begin(name)
        figures[name] = await PARTS[name].measure(plan, progress)
    found = {"load_average_before": load_before, "parts": {name: asdict(one) for name, one in figures.items()}}
    document = write_results(options.output, "gateway", vars(options), found)
    bars: list[Bar] = []
    for name, one in figures.items():
        bars += PARTS[name].bars(one)
        for found_table in PARTS[name].tables(one):
            print(f"\n{found_table.text()}")
    print(f"\n{table(BAR_HEADS, [bar.row() for bar in bars])}")
    if options.report is not None:
        for path in write_report([read_run(document)], options.report):
            print(f"written: {path}")
    errors = [error for one in figures.values() for error in one.errors]
    print(f"failed requests: {len(errors)} {sorted(set(errors))[:5] if errors else ''}")
    return len(errors)
