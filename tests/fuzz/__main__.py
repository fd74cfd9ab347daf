"""Run fuzzers: `make fuzz ARGS="--target body --seconds 3600"`; without a target, all of them."""

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz.findings import Findings, failure
from fuzz.mutation import next_input
from fuzz.registry import TARGETS
from fuzz.target import Target

_FOLDER = Path(__file__).parents[2] / ".cache" / "fuzz"
_REGRESSIONS = Path(__file__).parent / "regressions"
_LONGEST_INPUT = 8192
_MOST_MEMORY_MB = 2048
_HANGS_AFTER_SECONDS = 120
_PROGRESS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
_DONE = re.compile(r"^Done (\d+) runs", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did.

    Attributes:
        executions: Inputs tried.
        coverage: libFuzzer's counts of edges, features and kept inputs; empty where nothing was measured.
        seconds: How long it ran.
        findings: Files of what failed.
        ended_early: It stopped before its time: a hang, no memory left, a crash of the interpreter.
    """

    executions: int
    coverage: str
    seconds: float
    findings: tuple[Path, ...]
    ended_early: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at the same time (%(default)s)")
    parser.add_argument("--input", type=Path, help="try this one file on the target and show what fails")
    parser.add_argument("--unguided", action="store_true", help="random inputs even where atheris is installed")
    options = parser.parse_args(arguments)
    chosen = list(TARGETS.values()) if options.target == "all" else [TARGETS[options.target]]
    if options.input is not None:
        for target in chosen:
            target.check(options.input.read_bytes())
        print(f"{options.input}: nothing fails")
        return 0
    installed = importlib.util.find_spec("atheris") is not None
    guided = installed and not options.unguided
    why = "atheris is not installed" if not installed else "as asked for"
    print("guided by coverage (atheris)" if guided else f"random inputs, not guided by coverage ({why})")
    run = _run_guided if guided else _run_random
    results = run(chosen, options.seconds, options.jobs)
    for name, result in results.items():
        early = " ENDED EARLY, see its log" if result.ended_early else ""
        print(
            f"{name:<11} {result.executions:>10} executions in {result.seconds:.0f} s, "
            f"{result.coverage or 'coverage not measured'}, {len(result.findings)} findings{early}"
        )
        for file in result.findings:
            print(f'  {file}   again: make fuzz ARGS="--target {name} --input {file}"')
    return int(any(result.findings or result.ended_early for result in results.values()))


def _run_random(targets: Sequence[Target], seconds: float, _jobs: int) -> dict[str, Result]:
    results = {}
    for target in targets:
        findings = Findings(target, _FOLDER / target.name / "findings")
        rng = random.Random()
        started = time.monotonic()
        executions = 0
        while time.monotonic() - started < seconds:
            data = next_input(target, rng)
            executions += 1
            error = failure(target, data)
            if error is not None:
                findings.add(data, error)
        results[target.name] = Result(executions, "", time.monotonic() - started, tuple(findings.files))
    return results


@dataclass(slots=True)
class _Running:
    process: "subprocess.Popen[bytes]"
    log: Path
    started: float


def _run_guided(targets: Sequence[Target], seconds: float, jobs: int) -> dict[str, Result]:
    waiting = list(targets)
    running: dict[str, _Running] = {}
    results: dict[str, Result] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                target = waiting.pop(0)
                running[target.name] = _start(target, seconds)
            name, run = next(iter(running.items()))
            for name, run in list(running.items()):
                if run.process.poll() is not None:
                    results[name] = _result(name, running.pop(name))
            if name in running:
                try:
                    run.process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
    finally:
        for run in running.values():
            run.process.terminate()
            run.process.wait()
    return results


def _start(target: Target, seconds: float) -> _Running:
    folder = _FOLDER / target.name
    corpus, seeds = folder / "corpus", folder / "seeds"
    for path in (corpus, seeds, folder / "crashes"):
        path.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(target.seeds):
        (seeds / f"seed-{index}").write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(map(_word, filter(None, target.tokens))))
    log = folder / "log"
    command = [
        sys.executable, "-m", "fuzz.guided", target.name, str(folder / "findings"), str(corpus), str(seeds),
        *([str(_REGRESSIONS / target.name)] if (_REGRESSIONS / target.name).is_dir() else []),
        f"-max_total_time={max(1, round(seconds))}", f"-max_len={_LONGEST_INPUT}", f"-rss_limit_mb={_MOST_MEMORY_MB}",
        f"-timeout={_HANGS_AFTER_SECONDS}", f"-report_slow_units={_HANGS_AFTER_SECONDS}",
        f"-artifact_prefix={folder / 'crashes'}/", f"-dict={words}",
        "-print_final_stats=1", "-reload=0",
    ]  # fmt: skip
    print(f"{target.name}: log in {log}", flush=True)
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    return _Running(process, log, time.monotonic())


def _word(token: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n'


def _result(name: str, run: _Running) -> Result:
    text = run.log.read_text(errors="replace")
    progress = _PROGRESS.findall(text)
    done = _DONE.search(text)
    executions = int(done[1]) if done else int(progress[-1][0]) if progress else 0
    coverage = "edges {1}, features {2}, corpus {3}".format(*progress[-1]) if progress else ""
    findings = [Path(path) for path in re.findall(rf"^{name}: FINDING (.*)$", text, re.MULTILINE)]
    crashes = re.findall(r"Test unit written to (.*)$", text, re.MULTILINE)
    files = (*findings, *(Path(path) for path in crashes))
    return Result(executions, coverage, time.monotonic() - run.started, files, ended_early=done is None)


if __name__ == "__main__":
    sys.exit(main())
