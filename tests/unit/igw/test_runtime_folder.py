"""A runtime folder is private, has a short path, is removed at the end, and abandoned ones go at the next start."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from igw.runtime_folder import RuntimeFolder


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tmp_path_factory.getbasetemp()  # pytest makes it when it is first asked for: not in the folder that goes again
    # Short, because a long one is not used at all.
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


def test_private_while_in_use_and_gone_afterwards() -> None:
    with RuntimeFolder() as folder:
        assert folder.path.parent == Path(tempfile.gettempdir())
        assert folder.path.stat().st_mode & 0o777 == 0o700
        written = folder.write_manifests("a.yaml", "x: 1\n")
        assert written.read_text() == "x: 1\n"
        assert [entry.name for entry in written.parent.iterdir()] == ["a.yaml"]
    assert not folder.path.exists()


def test_a_long_temporary_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with RuntimeFolder() as folder:
        assert len(os.fsencode(str(folder.path / "envoy-admin.sock"))) <= 103


def test_only_abandoned_folders_are_removed() -> None:
    parent = Path(tempfile.gettempdir())
    with RuntimeFolder() as used:
        os.utime(used.path, (0, 0))
        abandoned = parent / "igw-abandoned"
        young = parent / "igw-young"
        foreign = parent / "igw-foreign"
        for folder in (abandoned, young, foreign):
            folder.mkdir()
        for folder in (abandoned, young):
            (folder / ".lock").touch()
        for folder in (abandoned, foreign):
            os.utime(folder, (0, 0))
        with RuntimeFolder():
            assert not abandoned.exists()
            assert young.exists()
            assert foreign.exists()
            assert used.path.exists()
