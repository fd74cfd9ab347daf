"""Notices edits of manifest files: new content within a fraction of a second, also behind renames and symlinks."""

import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from watchfiles import awatch

from endpoint_picker.datalayer.files import STDIN, LoadedManifests, expand, load_manifests

logger = logging.getLogger(__name__)

_DEBOUNCE_MILLISECONDS: Final = 150
_RESCAN_MILLISECONDS: Final = 2000
"""Without events the files are compared as often; it finds what a file system does not report."""


def watched_folders(paths: Sequence[str]) -> set[Path]:
    """Return the existing folders whose changes can change what *paths* stand for."""
    folders: set[Path] = set()
    for path in paths:
        if path == STDIN:
            continue
        if Path(path).is_dir():
            folders.add(Path(path))
        for file in expand(path)[0] or [path]:
            parent = Path(file).parent
            while not parent.is_dir() and parent != parent.parent:
                parent = parent.parent
            folders.add(parent)
            if Path(file).is_symlink():
                folders.add(Path(file).resolve().parent)
    return {folder for folder in folders if folder.is_dir()}


class ManifestWatch:
    """Follows a set of manifest paths.

    Args:
        paths: Files, folders and globs; standard input is read once and never changes.
        first: What the paths held at the start.
    """

    def __init__(self, paths: Sequence[str], first: LoadedManifests) -> None:
        self._paths = tuple(paths)
        self._last = first
        self._stdin = [entry for entry in first.located if entry.source == "<stdin>"]

    async def changes(self) -> AsyncIterator[LoadedManifests]:
        """Yield the whole content after every change of it, for ever."""
        while True:
            folders = watched_folders(self._paths)
            if not folders:
                return
            async for _ in awatch(
                *folders,
                debounce=_DEBOUNCE_MILLISECONDS,
                step=30,
                rust_timeout=_RESCAN_MILLISECONDS,
                yield_on_timeout=True,
                recursive=True,
                ignore_permission_denied=True,
            ):
                loaded = self._load()
                if loaded != self._last:
                    self._last = loaded
                    yield loaded
                if watched_folders(self._paths) != folders:
                    break

    def _load(self) -> LoadedManifests:
        loaded = load_manifests([path for path in self._paths if path != STDIN])
        if not self._stdin:
            return loaded
        located = (*self._stdin, *loaded.located)
        return LoadedManifests(located, loaded.problems, loaded.ignored, loaded.files)
