"""All files are written before the first is moved to its place, and what was there before comes back without room."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from endpoint_picker.datalayer.staged_files import StagedFiles

PATTERNS = ("a.json", "sub/*.json")


def staged(folder: Path) -> StagedFiles:
    return StagedFiles(folder, PATTERNS)


def publish(files: StagedFiles, path: str, content: dict[str, object], *, on_trial: bool = False) -> None:
    files.stage({path: content})
    assert files.publish(path, on_trial=on_trial)


def there(folder: Path) -> dict[str, Any]:
    """Every file below *folder* with its content."""
    return {str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("*") if path.is_file()}


def full_disk(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Let files be opened *after* times only."""
    opened = 0
    real = os.open

    def limited(path: Any, flags: int, mode: int = 0o777) -> int:
        nonlocal opened
        opened += 1
        if opened > after:
            raise OSError(28, "No space left on device")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", limited)


def test_what_is_staged_is_not_in_its_place(tmp_path: Path) -> None:
    files = staged(tmp_path)
    files.stage({"a.json": {"v": 1}, "sub/b.json": {"v": 1}})
    assert set(there(tmp_path)) == {"a.json.new", "sub/b.json.new"}
    assert files.publish("sub/b.json")
    files.discard()
    assert there(tmp_path) == {"sub/b.json": {"v": 1}}
    assert (files.get("a.json"), files["sub/b.json"], files.paths) == (None, {"v": 1}, ("sub/b.json",))


def test_what_is_the_same_is_not_staged(tmp_path: Path) -> None:
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1})
    files.stage({"a.json": {"v": 1}})
    assert not files.publish("a.json")


def test_a_file_that_cannot_be_written_leaves_all_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1})
    with monkeypatch.context() as patched:
        full_disk(patched, after=1)
        with pytest.raises(OSError, match="No space"):
            files.stage({"a.json": {"v": 2}, "sub/b.json": {"v": 2}})
    assert there(tmp_path) == {"a.json": {"v": 1}}
    files.stage({"a.json": {"v": 2}})
    assert files.publish("a.json")


@pytest.mark.parametrize("linked", [True, False], ids=["second-names", "no-second-names"])
def test_what_was_there_before_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    if not linked:

        def refuse(*_: object) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1})
    publish(files, "a.json", {"v": 2}, on_trial=True)
    files.put_back("a.json")
    assert there(tmp_path) == {"a.json": files["a.json"]} == {"a.json": {"v": 1}}


def test_it_comes_back_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1})
    publish(files, "a.json", {"v": 2}, on_trial=True)
    full_disk(monkeypatch, after=0)
    files.put_back("a.json")
    monkeypatch.undo()
    assert there(tmp_path) == {"a.json": {"v": 1}}


def test_what_proved_good_stays(tmp_path: Path) -> None:
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1})
    publish(files, "a.json", {"v": 2}, on_trial=True)
    files.keep("a.json")
    files.put_back("a.json")
    assert there(tmp_path) == {"a.json": {"v": 2}}


def test_the_first_of_its_name_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1}, on_trial=True)
    files.put_back("a.json")
    assert there(tmp_path) == {"a.json": {"v": 1}}


def test_the_next_process_takes_over_what_proved_good(tmp_path: Path) -> None:
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1})
    publish(files, "sub/b.json", {"v": 1})
    publish(files, "a.json", {"v": 2}, on_trial=True)
    files.stage({"sub/b.json": {"v": 2}})
    again = staged(tmp_path)
    assert there(tmp_path) == {path: again[path] for path in again.paths}
    assert {path: again[path] for path in again.paths} == {"a.json": {"v": 1}, "sub/b.json": {"v": 1}}


@pytest.mark.parametrize("text", ["half of it: {", "[]", "\xff"])
def test_a_file_that_holds_something_else_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    files = staged(tmp_path)
    assert files.get("a.json") is None
    publish(files, "a.json", {"v": 1})
    assert there(tmp_path) == {"a.json": {"v": 1}}


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("b.json", "b.json.old", "b.json.new", "other/c.json.old", "other/c.json.new"):
        (tmp_path / name).write_text("{}")
    assert staged(tmp_path).paths == ()
    assert len(there(tmp_path)) == 5


def test_a_removed_file_is_gone(tmp_path: Path) -> None:
    files = staged(tmp_path)
    publish(files, "a.json", {"v": 1})
    files.remove("a.json")
    files.remove("a.json")
    assert (there(tmp_path), files.paths) == ({}, ())
