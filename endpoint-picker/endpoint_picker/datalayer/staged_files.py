"""JSON files that are all written beside their places first and then moved there one by one.

What cannot be written, on a full disk for instance, is found out before anything has changed; and to go back to what
was there before needs no room, because it is kept under a second name until the new content has proved good.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from envoy_config.fields import Json

_NEW: Final = ".new"
_OLD: Final = ".old"


class StagedFiles:
    """The JSON files of one folder, readable by their owner only; the only writer of it.

    Files that an earlier process left are taken over, those that had not proved good replaced by what was before.

    Args:
        directory: The folder; made when the first file is written.
        patterns: Of the files in it that are ours.
    """

    def __init__(self, directory: Path, patterns: Sequence[str]) -> None:
        self._directory = directory
        self._in_force: dict[str, Json] = {}
        self._staged: dict[str, Json] = {}
        self._before: dict[str, Json] = {}  # of what has not proved good yet
        self._recover(patterns)

    def __getitem__(self, path: str) -> Json:
        return self._in_force[path]

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all files there are."""
        return tuple(self._in_force)

    def get(self, path: str) -> Json | None:
        """Return what is in force under *path*; None where there is no such file."""
        return self._in_force.get(path)

    def stage(self, files: Mapping[str, Json]) -> None:
        """Write beside its place every file whose content differs from what is there.

        Raises:
            OSError: One cannot be written; none is staged then.
        """
        self.discard()
        try:
            for path, content in files.items():
                if self._in_force.get(path) != content:
                    self._staged[path] = content
                    self._write(path, content)
        except BaseException:
            self.discard()
            raise

    def publish(self, path: str, *, on_trial: bool = False) -> bool:
        """Move a staged file to its place; return whether there was one.

        Args:
            path: As it was staged.
            on_trial: Remember what was there before until `keep` or `put_back`.
        """
        content = self._staged.pop(path, None)
        if content is None:
            return False
        target = self._directory / path
        before = self._in_force.get(path)
        if on_trial and before is not None:
            self._before[path] = before
            self._beside(path, _OLD).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # no second names on this file system: `put_back` writes instead
                os.link(target, self._beside(path, _OLD))
        self._beside(path, _NEW).rename(target)
        self._in_force[path] = content
        return True

    def keep(self, path: str) -> None:
        """Take note that what is in force under *path* has proved good."""
        self._before.pop(path, None)
        self._beside(path, _OLD).unlink(missing_ok=True)

    def put_back(self, path: str) -> None:
        """Restore what was under *path* before the last `publish` on trial, if there was anything.

        Raises:
            OSError: It has to be written, where there is no second name, and cannot be.
        """
        before = self._before.pop(path, None)
        if before is None:
            return
        target = self._directory / path
        try:
            self._beside(path, _OLD).rename(target)
        except FileNotFoundError:
            self._write(path, before)
            self._beside(path, _NEW).rename(target)
        self._in_force[path] = before

    def remove(self, path: str) -> None:
        """Remove a file."""
        (self._directory / path).unlink(missing_ok=True)
        self._in_force.pop(path, None)

    def discard(self) -> None:
        """Forget and remove what is staged and not published."""
        for path in self._staged:
            self._beside(path, _NEW).unlink(missing_ok=True)
        self._staged.clear()

    def _beside(self, path: str, suffix: str) -> Path:
        target = self._directory / path
        return target.with_name(target.name + suffix)

    def _write(self, path: str, content: Json) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._beside(path, _NEW)
        temporary.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, separators=(",", ":"))

    def _recover(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            for left_over in self._directory.glob(pattern + _NEW):
                left_over.unlink(missing_ok=True)
            for previous in self._directory.glob(pattern + _OLD):
                previous.rename(previous.with_suffix(""))
            for file in self._directory.glob(pattern):
                with contextlib.suppress(OSError, ValueError):  # unreadable: written anew if its name is needed
                    content = json.loads(file.read_bytes())
                    if isinstance(content, dict):
                        self._in_force[str(file.relative_to(self._directory))] = content
