"""Edits are noticed however they are made; what cannot be used is reported and the next good state follows."""

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from endpoint_picker.datalayer import manifest_watch
from endpoint_picker.datalayer.files import LoadedManifests, load_manifests
from endpoint_picker.datalayer.manifest_watch import ManifestWatch, signature

OBJECTIVE = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: NAME}
spec: {poolRef: {name: p}}
"""


def objective(name: str) -> str:
    return OBJECTIVE.replace("NAME", name)


def names_in(loaded: LoadedManifests) -> list[str]:
    return [resource.metadata.name for resource in loaded.resources]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_watch, "_POLL_SECONDS", 0.002)
    monkeypatch.setattr(manifest_watch, "_SETTLE_SECONDS", 0.002)


async def following(changes: AsyncIterator[LoadedManifests]) -> LoadedManifests:
    async with asyncio.timeout(5):
        return await anext(changes)


def in_place(path: Path) -> None:
    with path.open("r+") as file:
        file.truncate()
        file.write(objective("new"))


def by_rename(path: Path) -> None:
    other = path.with_name(path.name + ".new")
    other.write_text(objective("new"))
    other.rename(path)


@pytest.mark.parametrize("edit", [in_place, by_rename])
@pytest.mark.parametrize("of_folder", [True, False])
async def test_edits(tmp_path: Path, edit: Callable[[Path], None], of_folder: bool) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(objective("old"))
    paths = [str(tmp_path if of_folder else path)]
    changes = ManifestWatch(paths, load_manifests(paths)).changes()
    edit(path)
    assert names_in(await following(changes)) == ["new"]


async def test_a_mounted_config_map_changes_by_a_symlink(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.yaml").write_text(objective(f"v{version}"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    paths = [str(tmp_path)]
    first = load_manifests(paths)
    assert (names_in(first), first.problems) == (["v1"], ())
    changes = ManifestWatch(paths, first).changes()
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert names_in(await following(changes)) == ["v2"]


async def test_a_broken_edit_is_reported_and_its_repair_too(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(objective("a"))
    changes = ManifestWatch([str(path)], load_manifests([str(path)])).changes()
    path.write_text("a: [")
    assert (await following(changes)).problems
    path.write_text(objective("a"))
    repaired = await following(changes)
    assert (names_in(repaired), repaired.problems) == (["a"], ())


async def test_deletion_and_return(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(objective("a"))
    changes = ManifestWatch([str(path)], load_manifests([str(path)])).changes()
    path.unlink()
    assert (await following(changes)).problems[0].message == "no such file or folder"
    path.write_text(objective("a"))
    assert names_in(await following(changes)) == ["a"]


async def test_a_new_file_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(objective("a"))
    changes = ManifestWatch([str(tmp_path)], load_manifests([str(tmp_path)])).changes()
    (tmp_path / "b.yaml").write_text(objective("b"))
    assert names_in(await following(changes)) == ["a", "b"]


async def test_an_edit_between_loading_and_watching_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(objective("a"))
    first = load_manifests([str(path)])
    path.write_text(objective("b"))
    assert names_in(await following(ManifestWatch([str(path)], first).changes())) == ["b"]


async def test_standard_input_stays_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(objective("a"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(objective("s").encode())))
    paths = [str(path), "-"]
    changes = ManifestWatch(paths, load_manifests(paths)).changes()
    path.write_text(objective("b"))
    assert names_in(await following(changes)) == ["b", "s"]


async def test_a_touch_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(objective("a"))
    changes = ManifestWatch([str(path)], load_manifests([str(path)])).changes()
    os.utime(path, ns=(1, 1))
    waiting = changes.__anext__()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await waiting


def test_the_signature_of_what_is_not_there(tmp_path: Path) -> None:
    assert signature([str(tmp_path / "none"), "x" * 300]) == ()
