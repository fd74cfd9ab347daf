"""The command line: one clear line and the right exit code for what cannot be used, help that fits 80 columns."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from igw.__main__ import app

RUNNER = CliRunner()
COMMANDS = (
    [],
    ["up"],
    ["demo"],
    ["simulate"],
    ["validate"],
    ["status"],
    ["version"],
    ["config"],
    ["config", "dump"],
)
POOL = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p}
spec:
  selector: {matchLabels: {app: p}}
  targetPorts: [{number: 8000}]
"""
MODEL = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: m}
spec:
  modelName: m
  poolRef: {group: inference.networking.k8s.io, name: p}
"""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_everywhere_and_fits_80_columns(command: list[str]) -> None:
    result = RUNNER.invoke(app, [*command, "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize("command", [["up"], ["demo"], ["validate"], ["status"], ["config", "dump"]], ids=" ".join)
def test_help_says_what_exit_codes_mean(command: list[str]) -> None:
    output = RUNNER.invoke(app, [*command, "--help"]).output
    assert "Exit codes: 0 done, 1 failed while running, 2 input that cannot be used." in " ".join(output.split())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(["up"], "give manifests with -f PATH or model servers with --pool NAME=URL,URL…", id="nothing"),
        pytest.param(["up", "-f", "nowhere"], "-f nowhere: no such file or folder", id="no-file"),
        pytest.param(["up", "-f", "no*.yaml"], "-f no*.yaml: nothing matches", id="empty-pattern"),
        pytest.param(["up", "--pool", "m"], "--pool m: expected NAME=URL,URL…", id="bad-pool"),
        pytest.param(
            ["up", "--pool", "m=http://x", "--api-key-file", "nokey"],
            "--api-key-file nokey: No such file or directory",
            id="no-key-file",
        ),
        pytest.param(
            ["up", "--pool", "m=http://x", "--config", "."],
            "--config .: Is a directory",
            id="config-is-a-folder",
        ),
        pytest.param(["validate"], "give manifests with -f PATH", id="validate-nothing"),
        pytest.param(["config", "dump"], "give manifests with -f PATH", id="dump-nothing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"igw: {line}")


def test_an_empty_key_file_is_no_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("\n")
    result = RUNNER.invoke(app, ["up", "--pool", "m=http://x", "--api-key-file", str(key)])
    assert result.exit_code == 2
    assert result.stderr == f"igw: --api-key-file {key}: the file is empty\n"


def test_an_envoy_that_is_not_there(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["up", "--pool", "m=http://x", "--envoy", str(tmp_path / "envoy")])
    assert result.exit_code == 1
    assert result.stderr.startswith("igw: --envoy ")
    assert len(result.stderr.splitlines()) == 1


def test_options_can_come_from_the_environment(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["up", "--pool", "m=http://x"], env={"IGW_ENVOY": "/nowhere/envoy"})
    assert result.exit_code == 1
    assert "/nowhere/envoy" in result.stderr


def test_validate_shows_what_would_be_served(tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(f"{POOL}---{MODEL}")
    result = RUNNER.invoke(app, ["validate", "-f", str(manifest)], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "1 InferenceModel, 1 InferencePool" in result.stdout
    assert "default/p:v1" in result.stdout
    assert max(map(len, result.stdout.replace(str(manifest), "m.yaml").splitlines())) <= 80


def test_validate_tells_of_conditions_that_would_be_false(tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(MODEL)
    result = RUNNER.invoke(app, ["validate", "-f", str(manifest)])
    assert result.exit_code == 0
    assert "InferenceModel default/m: Accepted=False" in result.stdout


@pytest.mark.parametrize("command", [["validate"], ["config", "dump"]], ids=" ".join)
def test_each_problem_has_its_line(command: list[str], tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(POOL.replace("8000", "70000").replace("targetPorts", "targetPort") + "---\nkind: Pod\n")
    result = RUNNER.invoke(app, [*command, "-f", str(manifest)])
    assert result.exit_code == 2
    assert result.stdout == ""
    *problems, last = result.stderr.splitlines()
    assert len(problems) >= 2
    assert all(problem.startswith(f"{manifest}:") for problem in problems)
    assert last == f"igw: {len(problems)} problems in 1 file"


def test_config_dump_writes_the_files_envoy_reads(tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(f"{POOL}---{MODEL}")
    printed = RUNNER.invoke(app, ["config", "dump", "-f", str(manifest)])
    assert printed.exit_code == 0
    assert '"bootstrap.json": {' in printed.stdout
    folder = tmp_path / "out"
    written = RUNNER.invoke(app, ["config", "dump", "-f", str(manifest), "-o", str(folder)])
    assert written.exit_code == 0
    assert (folder / "bootstrap.json").stat().st_mode & 0o777 == 0o600
    assert str(folder) in (folder / "bootstrap.json").read_text()


def test_version_names_the_parts() -> None:
    result = RUNNER.invoke(app, ["version"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["Inference", "Envoy", "Python"]
