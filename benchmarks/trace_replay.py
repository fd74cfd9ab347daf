"""``trace``: a real request trace in real time through the gateway, next to the same Envoy with plain round robin.

Each arm gets fresh simulated model servers, a process each, and the same requests at the same moments. Prompts have the
trace's lengths, answers are streamed and as long as the trace's.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.client import new_session
from benchmarks.cpu_clock import CpuMeter
from benchmarks.open_loop import OpenLoop
from benchmarks.plain_envoy import POLICIES
from benchmarks.processes import open_stage
from benchmarks.results import write_results
from benchmarks.saturation import saturation_rate
from benchmarks.server_counts import read_counts
from benchmarks.trace_figures import ArmResult, report
from benchmarks.trace_files import TraceRequest, TraceUnreadableError, read_trace, shape_trace
from igw.errors import BadInput
from igw.simulator.timing import PRESETS

GATEWAY: Final = "gateway"
_DATA: Final = Path(__file__).with_name("data") / "azure_llm_2023_conv_20min.csv.gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--file", type=Path, default=_DATA, help="Azure .csv or Mooncake .jsonl, also .gz")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the replay of each arm")
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster than in the trace requests come")
    parser.add_argument("--servers", type=int, default=4, help="simulated model servers")
    parser.add_argument("--timing", choices=sorted(PRESETS), default="a100-40-8b", help="what the servers simulate")
    parser.add_argument("--time-scale", type=float, default=0.3, help="simulated seconds per real second")
    known = f"of {GATEWAY}, {', '.join(POLICIES)} and NAME=FILE: the gateway with that EndpointPickerConfig"
    parser.add_argument("--arms", default=f"{GATEWAY},round-robin", help=known)
    parser.add_argument("--interleave", type=int, default=1, metavar="SLICES", help="let the arms take turns")
    parser.add_argument("--max-prompt-tokens", type=int, default=16_384, help="longer prompts are cut")
    parser.add_argument("--max-output-tokens", type=int, default=2_048, help="longer answers are cut")
    parser.add_argument("--seed", type=int, default=1, help="of the prompts' text")


async def run(options: argparse.Namespace) -> int:
    """Replay, print and write; return the number of failed requests."""
    arms = parse_arms(options.arms)
    requests = _load(options)
    offered = len(requests) / (options.minutes * 60)
    saturation = _saturation(requests, options)
    print(
        f"trace: {len(requests)} requests in {options.minutes:g} min, {offered:.2f}/s, "
        f"{_load_text(offered, saturation)}; {len(arms)} arms, {options.interleave} slices each",
        flush=True,
    )
    results = {arm.name: ArmResult() for arm in arms}
    for number, part in enumerate(slices(requests, options.interleave, options.minutes * 60)):
        # Whoever begins may meet a busier machine: the order turns with each slice.
        turn = number % len(arms)
        for arm in [*arms[turn:], *arms[:turn]]:
            results[arm.name].add(await _replay(arm, part, options))
    figures = {arm: result.figures() for arm, result in results.items()}
    print(f"\n{report(figures)}\n")
    for name, result in results.items():
        if result.errors:
            print(f"{name} failed: {sorted(set(result.errors))[:5]}")
    write_results(
        options.output,
        "trace",
        vars(options),
        {
            "offered_per_second": offered,
            "saturation_per_second": saturation,
            "arms": {arm: asdict(one) for arm, one in figures.items()},
        },
    )
    return sum(len(result.errors) for result in results.values())


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to spread the requests.

    Attributes:
        name: For tables.
        policy: Envoy's policy; empty: the gateway.
        scheduling: `EndpointPickerConfig` of the gateway; None: its default.
    """

    name: str
    policy: str = ""
    scheduling: Path | None = None


def parse_arms(text: str) -> list[Arm]:
    """Return the arms of a comma-separated list.

    Raises:
        BadInput: One is unknown, named twice, or its file does not exist.
    """
    arms: list[Arm] = []
    for word in text.split(","):
        name, equals, file = word.partition("=")
        if name in {arm.name for arm in arms} or not name:
            msg = f"--arms {text}: an arm is empty or named twice"
            raise BadInput(msg)
        if equals:
            if not Path(file).is_file():
                msg = f"--arms {word}: no such file"
                raise BadInput(msg)
            arms.append(Arm(name, scheduling=Path(file).resolve()))
        elif name == GATEWAY:
            arms.append(Arm(name))
        elif name in POLICIES:
            arms.append(Arm(name, policy=name))
        else:
            msg = f"--arms {word}: known are {GATEWAY}, {', '.join(POLICIES)} and NAME=FILE"
            raise BadInput(msg)
    return arms


def _load(options: argparse.Namespace) -> list[TraceRequest]:
    try:
        requests = shape_trace(
            read_trace(options.file),
            minutes=options.minutes,
            speed=options.speed,
            max_prompt_tokens=options.max_prompt_tokens,
            max_output_tokens=options.max_output_tokens,
        )
    except TraceUnreadableError as error:
        raise BadInput(str(error)) from error
    if not requests:
        msg = "no request comes in so short a time"
        raise BadInput(msg)
    return requests


def _saturation(requests: Sequence[TraceRequest], options: argparse.Namespace) -> float | None:
    """Return what the servers can do; None where too few requests tell nothing."""
    try:
        return saturation_rate(requests, servers=options.servers, timing=options.timing, time_scale=options.time_scale)
    except ValueError:
        return None


def _load_text(offered: float, saturation: float | None) -> str:
    if saturation is None:
        return "too few to tell the share of saturation"
    return f"{offered / saturation:.0%} of what the servers complete when full ({saturation:.2f}/s)"


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a trace; seconds count from its beginning, *first_number* is that of its first request."""

    requests: list[TraceRequest]
    first_number: int


def slices(requests: Sequence[TraceRequest], count: int, seconds: float) -> list[Slice]:
    """Return *count* parts of equal duration; parts without requests are left out."""
    width = seconds / count
    parts: list[Slice] = []
    for index in range(count):
        start = index * width
        inside = [(n, r) for n, r in enumerate(requests) if min(count - 1, int(r.seconds / width)) == index]
        if inside:
            parts.append(Slice([replace(r, seconds=r.seconds - start) for _, r in inside], inside[0][0]))
    return parts


async def _replay(arm: Arm, part: Slice, options: argparse.Namespace) -> ArmResult:
    async with open_stage(options.envoy) as stage:
        servers = await stage.simulated_servers(options.servers, timing=options.timing, time_scale=options.time_scale)
        if arm.policy:
            gateway = await stage.plain_envoy(servers, arm.policy)
        else:
            gateway = await stage.gateway(servers, scheduling=arm.scheduling)
        numbered = {f"server-{number}": pid for number, pid in enumerate(servers.pids)}
        async with new_session() as session:
            loop = OpenLoop(session, gateway.url, name=arm.name, seed=options.seed)
            meter = CpuMeter({**gateway.pids, **numbered})
            own, began = time.process_time(), time.perf_counter()
            replayed = await loop.replay(part.requests, first_number=part.first_number)
            seconds = time.perf_counter() - began
            client = time.process_time() - own
        used = meter.seconds()
        counts = await read_counts(servers)
    cpu = {name: used[name] for name in gateway.pids}
    cpu |= {"servers": sum(used[name] for name in numbered), "client": client}
    return ArmResult(replayed, counts, cpu, seconds)
