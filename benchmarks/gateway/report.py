"""Writes the page about the gateway's costs, and its plots, from the files of one or more runs."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from benchmarks.gateway.bars import BAR_HEADS, Bar
from benchmarks.gateway.page_text import BEGIN, END, LEADS, TITLES
from benchmarks.gateway.parts import PARTS
from benchmarks.gateway.plots import cpu_plot, memory_plot
from benchmarks.gateway.tables import Table
from igw.errors import BadInput

PAGE: Final = "benchmarks.md"
IMAGES: Final = "images"

_PLOTS: Final[Mapping[str, tuple[str, Callable[[Any], str], str]]] = {
    "cells": ("benchmarks-cpu.svg", cpu_plot, "CPU time of the picker per request"),
    "memory": ("benchmarks-memory.svg", memory_plot, "Memory of picker and Envoy over the requests of a run"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it was written.

    Attributes:
        finished: When.
        machine: On what.
        options: As asked.
        load_before: Load average of the machine before it began.
        figures: What each part measured.
    """

    finished: str
    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    load_before: float
    figures: Mapping[str, Any]


def read_run(document: Mapping[str, Any]) -> Run:
    """Return a run from its JSON document.

    Raises:
        BadInput: It is not one of this benchmark, or of another version of it.
    """
    try:
        figures = {
            name: TypeAdapter(PARTS[name].Figures).validate_python(part) for name, part in document["parts"].items()
        }
        return Run(
            document["finished"],
            document["machine"],
            document["options"],
            document["load_average_before"][0],
            figures,
        )
    except (KeyError, TypeError, ValidationError) as error:
        msg = f"not the figures of a gateway benchmark, or of another version of it: {error}"
        raise BadInput(msg) from error


def write_report(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write page and plots into *folder* and return their paths; of a part that was run twice the later run counts."""
    by_part = {name: run for run in runs for name in run.figures}
    written = []
    for name, (file, plot, _) in _PLOTS.items():
        if name in by_part:
            path = folder / IMAGES / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(plot(by_part[name].figures[name]), encoding="utf-8")
            written.append(path)
    page = folder / PAGE
    page.write_text(_page(by_part), encoding="utf-8")
    return [page, *written]


def _page(by_part: Mapping[str, Run]) -> str:
    names = [name for name in PARTS if name in by_part]
    bars: list[Bar] = [bar for name in names for bar in PARTS[name].bars(by_part[name].figures[name])]
    sections = [BEGIN, _commands(by_part), "## Bars\n", _verdicts(bars)]
    for name in names:
        sections += [f"## {TITLES[name]}\n", LEADS[name]]
        if name in _PLOTS:
            file, _, text = _PLOTS[name]
            sections.append(f"![{text}]({IMAGES}/{file})\n")
        for table in PARTS[name].tables(by_part[name].figures[name]):
            sections.append(f"**{table.title}**\n\n{table.markdown()}")
    return "\n".join([*sections, END])


def _verdicts(bars: Sequence[Bar]) -> str:
    passed = sum(bar.verdict.startswith("PASS") for bar in bars)
    unsure = sum(bar.verdict.endswith("?") for bar in bars)
    note = f"{passed} of {len(bars)} bars are met; for {unsure} the interval holds the limit too (question mark)."
    return Table("", BAR_HEADS, [bar.row() for bar in bars], note).markdown()


def _commands(by_part: Mapping[str, Run]) -> str:
    """Return a table of the runs: command, moment, machine."""
    runs: dict[str, list[str]] = {}
    for name, run in by_part.items():
        runs.setdefault(run.finished, []).append(name)
    rows = []
    for finished, names in runs.items():
        run = by_part[names[0]]
        machine = run.machine
        parts = ",".join(name for name in PARTS if name in names)
        rows += [
            ("command", f"`python -m benchmarks gateway --parts {parts}{_changed(run.options)}`"),
            ("finished", finished),
            ("machine", f"{machine['processors']} cores, {machine['processor']}, {machine['machine']}"),
            ("load average before", f"{run.load_before:.2f}"),
            ("kernel", str(machine["kernel"])),
            ("versions", f"Envoy {machine['envoy']}, Python {machine['python']}, grpcio {machine['grpcio']}"),
        ]
    return Table("", ("run", ""), rows).markdown()


def _changed(options: Mapping[str, Any]) -> str:
    """Return what differed from the usual options."""
    usual = {"passes": 5, "seconds": 2.0, "endpoints": 8, "memory_requests": 200_000, "gap_ms": 2.0, "seed": 1}
    found = [
        f" --{name.replace('_', '-')} {options[name]}"
        for name, value in usual.items()
        if options.get(name) not in (None, "None", value)
    ]
    chosen = [f" --{name} {value}" for name in ("workload", "concurrency") for value in _listed(options.get(name))]
    return "".join([" --quick" if options.get("quick") else "", *chosen, *found])


def _listed(value: object) -> list[object]:
    """Return a repeatable option's values; one that was not given is written as text."""
    return value if isinstance(value, list) else []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command that writes a report of runs that were measured before."""
    parser.add_argument("files", nargs="+", type=Path, help="what `gateway --output` wrote")
    parser.add_argument("--to", type=Path, default=Path("docs"), help="folder for page and plots (docs)")


async def run(options: argparse.Namespace) -> int:
    """Write the report; return 0."""
    try:
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in options.files]
    except (OSError, ValueError) as error:
        msg = f"cannot be read: {error}"
        raise BadInput(msg) from error
    for path in write_report([read_run(document) for document in documents], options.to):
        print(f"written: {path}")
    return 0
