"""The picker alone: exit codes and words on a bad start, files for Envoy, edits, and a drain."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from endpoint_picker import __main__ as entry
from endpoint_picker.config.settings import SettingsProblem, read_settings
from endpoint_picker.config.standby import STANDBY
from endpoint_picker.datalayer import manifest_watch
from endpoint_picker.wiring import ManifestProblems, Picker
from envoy_config import names

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: NAME}
spec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 80}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: NAME}
spec: {modelName: NAME, poolRef: {name: NAME}}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_watch, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(manifest_watch, "_SETTLE_SECONDS", 0.005)


def manifest(folder: Path, *pools: str) -> Path:
    path = folder / "m.yaml"
    path.write_text("---\n".join(POOL.replace("NAME", name) for name in pools))
    return path


def arguments(folder: Path, *more: str) -> list[str]:
    run = str(folder / "run")
    return ["-f", str(folder / "m.yaml"), "--envoy-dir", run, "--admin", "127.0.0.1:0", "--drain-seconds", "0", *more]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - files have no events
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Picker]:
    picker = Picker(read_settings(arguments(folder)))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(picker.run(stop))
        await until(lambda: picker._state.synced)
        try:
            yield picker
        finally:
            stop.set()


@pytest.mark.parametrize(
    ("given", "text", "code", "words"),
    [
        pytest.param([], "", 2, "manifest: at least one -f PATH is needed", id="nothing"),
        pytest.param(None, "a: [", 2, "m.yaml", id="broken-manifest"),
    ],
)
def test_a_bad_start_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str] | None, text: str, code: int, words: str
) -> None:
    (tmp_path / "m.yaml").write_text(text)
    assert entry.run(arguments(tmp_path) if given is None else given) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "code"), [pytest.param(b"", 0, id="never-its-turn"), pytest.param(b"\n", 2, id="its-turn")]
)
def test_one_in_reserve_looks_at_nothing_before_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: bytes, code: int
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
    (tmp_path / "m.yaml").write_text("a: [")
    assert entry.run([STANDBY, *arguments(tmp_path)]) == code


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest(tmp_path, "p")
    (tmp_path / "run").write_text("in the way")
    assert entry.run(arguments(tmp_path)) == 1
    assert "endpoint-picker:" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "a: [", "kind: Other"])
def test_a_scheduling_file_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    manifest(tmp_path, "p")
    path = tmp_path / "s.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsProblem):
        Picker(read_settings(arguments(tmp_path, "--scheduling-config", str(path))))


def test_manifest_problems_come_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("a: [")
    with pytest.raises(ManifestProblems) as raised:
        Picker(read_settings(arguments(tmp_path)))
    assert raised.value.problems


async def test_files_and_socket_are_there_and_for_nobody_else(tmp_path: Path) -> None:
    manifest(tmp_path, "p")
    run = tmp_path / "run"
    run.mkdir()
    (run / names.PICKER_SOCKET).write_text("left by a killed picker")
    async with running(tmp_path):
        assert (run / names.BOOTSTRAP_FILE).exists()
        assert (run / names.PICKER_SOCKET).is_socket()
        assert (run / names.PICKER_SOCKET).stat().st_mode & 0o077 == 0


async def test_edits_apply_and_a_broken_one_keeps_the_last_good_state(tmp_path: Path) -> None:
    path = manifest(tmp_path, "p")
    async with running(tmp_path) as picker:

        def pools() -> list[str]:
            return sorted(key.name for key in picker._resolution.pools)

        assert pools() == ["p"]
        path.write_text("a: [")
        await until(lambda: bool(picker._state.page()["problems"]))
        assert pools() == ["p"]
        manifest(tmp_path, "p", "q")
        await until(lambda: pools() == ["p", "q"])
        await until(lambda: not picker._state.page()["problems"])
        assert picker._not_ready_reason() == ""
    assert picker._not_ready_reason() == "draining"


async def test_a_folder_that_breaks_later_refuses_the_edit_only(tmp_path: Path) -> None:
    manifest(tmp_path, "p")
    async with running(tmp_path) as picker:
        clusters = tmp_path / "run" / names.CLUSTERS_FILE
        (tmp_path / "run" / (names.CLUSTERS_FILE + ".new")).mkdir()
        manifest(tmp_path, "q")
        await until(lambda: "cannot be written" in str(picker._state.page()["problems"]))
        (tmp_path / "run" / (names.CLUSTERS_FILE + ".new")).rmdir()
        manifest(tmp_path, "r")
        await until(lambda: "default/r:v1" in clusters.read_text())
