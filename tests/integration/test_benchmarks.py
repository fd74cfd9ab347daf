"""Each benchmark runs to its end on a small load without a failed request and writes its figures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run_benchmark(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figures(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_trace_gives_every_arm_the_same_requests(tmp_path: Path) -> None:
    output = tmp_path / "trace.json"
    options = ["--minutes", "0.08", "--speed", "4", "--timing", "fast", "--time-scale", "1", "--servers", "2"]
    said = run_benchmark("trace", *options, "--output", str(output))
    arms = figures(output)["arms"]
    assert set(arms) == {"gateway", "round-robin"}
    assert arms["gateway"]["requests"] == arms["round-robin"]["requests"] > 10
    assert all(arm["errors"] == 0 and arm["prompt_tokens_ratio"] == 1.0 for arm in arms.values())
    assert sum(arms["gateway"]["requests_per_server"]) == arms["gateway"]["requests"]
    assert abs(arms["round-robin"]["requests_per_server"][0] * 2 - arms["round-robin"]["requests"]) <= 1
    assert "TTFT s p99" in said


@pytest.mark.slow
def test_gateway_measures_all_arms_and_what_they_use_without_requests(tmp_path: Path) -> None:
    output = tmp_path / "gateway.json"
    options = ["--parts", "cells", "--workload", "json-2k", "--workload", "stream16-2k", "--concurrency", "2"]
    options += ["--passes", "1", "--seconds", "0.2", "--endpoints", "2"]
    said = run_benchmark("gateway", *options, "--output", str(output), "--report", str(tmp_path / "docs"))
    part = figures(output)["parts"]["cells"]
    assert [cell["workload"]["name"] for cell in part["loads"]] == ["json-2k", "stream16-2k"]
    for cell in part["loads"]:
        assert set(cell["passes"]) == {"envoy-alone", "constant-picker", "constant-picker-own-server", "gateway"}
        for (one_pass,) in cell["passes"].values():
            assert one_pass["requests"] == cell["requests"]
            assert not one_pass["errors"]
            assert all(seconds > 0 for seconds in one_pass["use"]["cpu_seconds"].values())
    idle, busy = sorted(part["windows"], key=lambda window: window["busy"])
    assert busy["uses"]["gateway"]["pages"] > idle["uses"]["gateway"]["pages"]
    assert "picker by constant picker, stream16-2k c=2" in said
    page = (tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "picker by constant picker, stream16-2k c=2" in page
    assert f"python -m benchmarks gateway {' '.join(options)}" in page
    (tmp_path / "docs" / "benchmarks.md").unlink()
    run_benchmark("report", str(output), "--to", str(tmp_path / "docs"))
    assert (tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_profile_finds_the_pickers_functions() -> None:
    said = run_benchmark("profile", "--seconds", "1", "--endpoints", "2", "--workload", "json-2k")
    assert "0 failed" in said
    assert "director.py" in said


@pytest.mark.slow
def test_soak_loses_nothing_while_the_picker_is_killed(tmp_path: Path) -> None:
    output, report = tmp_path / "soak.json", tmp_path / "soak.md"
    options = ["--minutes", "0.1", "--pause", "1", "--servers", "2", "--seed", "3", "--fault", "picker killed"]
    said = run_benchmark("soak", *options, "--output", str(output), "--report", str(report))
    found = figures(output)
    assert found["violations"] == []
    assert found["faults"][0]["name"] == "picker killed"
    assert all(fault["answered_after"] > 0 for fault in found["faults"])
    assert sum(counts.get("answered", 0) for counts in found["requests"].values()) > 5
    assert {row["process"] for row in found["growth"]} >= {"igw up", "picker", "envoy", "server-0-0"}
    assert "nothing lost" in said
    assert report.read_text(encoding="utf-8") in said


def test_an_unknown_arm_is_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks", "trace", "--arms", "gateway,sorcery"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "sorcery" in done.stderr
    assert "Traceback" not in done.stderr
