"""``gateway``: what the gateway costs, beside Envoy alone and beside a picker that only answers constants.

Parts: *cells*, CPU per request and added time to the first byte for every kind of request; *scrape*, what reading the
metrics pages of many idle endpoints costs and how old their values get; *steady*, latency at a fixed moderate rate;
*throughput*, requests per second of one gateway; *mixed*, small requests beside bodies of 30 MB; *memory*, whether it
stays flat over 200,000 requests (takes about ten minutes, so only when named). All ratios are of one run.
"""

import argparse
from dataclasses import asdict
from typing import Final

from benchmarks.gateway import cells
from benchmarks.gateway.arms import open_arms
from benchmarks.gateway.bars import BAR_HEADS, Bar
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.processes import open_stage
from benchmarks.results import write_results
from benchmarks.text_table import table
from benchmarks.workloads import BY_NAME, WORKLOADS

PARTS: Final = ("cells",)
_DEFAULT_PARTS: Final = tuple(part for part in PARTS if part != "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--parts", default=",".join(_DEFAULT_PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a smoke run of about a minute; its figures say little")
    parser.add_argument("--workload", action="append", choices=list(BY_NAME), help="only these cells; repeatable")
    parser.add_argument("--concurrency", type=int, action="append", help="clients at once; repeatable (1, 16, 64)")
    parser.add_argument("--passes", type=int, help="turns of each arm under each load (5; quick 1)")
    parser.add_argument("--seconds", type=float, help="about how long a turn lasts (2.5; quick 0.3)")
    parser.add_argument("--endpoints", type=int, default=8, help="model servers of the pool")
    parser.add_argument("--gap-ms", type=float, default=2.0, help="time between two events of a stream")
    parser.add_argument("--seed", type=int, default=1, help="order of cells and arms")


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the options ask for."""
    names = options.workload or [w.name for w in WORKLOADS]
    return Plan(
        envoy=options.envoy,
        workloads=tuple(w for w in WORKLOADS if w.name in names),
        concurrency=tuple(options.concurrency or ((1, 16) if options.quick else (1, 16, 64))),
        passes=options.passes or (1 if options.quick else 5),
        seconds=options.seconds or (0.3 if options.quick else 2.5),
        endpoints=options.endpoints,
        gap_ms=options.gap_ms,
        seed=options.seed,
    )


async def run(options: argparse.Namespace) -> int:
    """Measure, print and write; return the number of failed requests."""
    plan = plan_of(options)
    progress = Progress({"cells": cells.expected_seconds(plan)})
    async with open_stage(options.envoy) as stage:
        progress.begin("cells")
        async with open_arms(stage, plan.endpoints, gap_ms=plan.gap_ms) as arms:
            figures = await cells.measure(arms, plan, progress)
    write_results(options.output, "gateway", vars(options), {"parts": {"cells": asdict(figures)}})
    found: list[Bar] = cells.bars(figures)
    for one in cells.tables(figures):
        print(f"\n{one.text()}")
    print(f"\n{table(BAR_HEADS, [bar.row() for bar in found])}")
    errors = figures.errors
    print(f"failed requests: {len(errors)} {sorted(set(errors))[:5] if errors else ''}")
    return len(errors)
