"""Notices edits of manifest files within a fraction of a second, whatever the file system or the way of editing.

It compares sizes, times and inodes instead of asking the kernel: that also sees mounted ConfigMaps (symlink swaps),
network file systems and files that do not exist yet, and costs about 10 microseconds per file and look.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from endpoint_picker.datalayer.files import LoadedManifests, expand, load_manifests

_POLL_SECONDS: Final = 0.25
_PAUSE_PER_LOOK: Final = 10.0
"""A look that takes long is followed by a pause ten times as long, so a huge folder does not cost a core."""
_SETTLE_SECONDS: Final = 0.05
_SETTLE_LOOKS: Final = 10

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and modification time in nanoseconds of every file, in order."""


def signature(paths: Sequence[str]) -> Signature:
    """Return what distinguishes the present content of *paths* from an earlier one."""
    entries: list[tuple[str, int, int, int]] = []
    for path in paths:
        for file in expand(path)[0]:
            try:
                status = Path(file).stat()
            except OSError:
                continue
            entries.append((file, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(entries)


class ManifestWatch:
    """Follows a set of manifest paths.

    Args:
        paths: Files, folders and globs; standard input and other streams were read once and never change.
        first: What the paths held at the start.
    """

    def __init__(self, paths: Sequence[str], first: LoadedManifests) -> None:
        self._paths = tuple(paths)
        self._followed = tuple(path for path in paths if path not in first.streams)
        self._first = first
        self._last = first

    async def changes(self) -> AsyncIterator[LoadedManifests]:
        """Yield the whole content after every change of it, for ever."""
        seen: Signature | None = None  # what was loaded may be older than the first look
        while True:
            began = time.monotonic()
            now = await self._look()
            pause = max(_POLL_SECONDS, _PAUSE_PER_LOOK * (time.monotonic() - began))
            if now != seen:
                seen = await self._settled(now)
                # in a thread: large manifests take seconds
                loaded = await asyncio.to_thread(load_manifests, self._paths, earlier=self._first)
                if (loaded.located, loaded.problems) != (self._last.located, self._last.problems):
                    self._last = loaded
                    yield loaded
            await asyncio.sleep(pause)

    async def _settled(self, now: Signature) -> Signature:
        """Return the signature once it stands still, so that half a save is not read."""
        for _ in range(_SETTLE_LOOKS):
            await asyncio.sleep(_SETTLE_SECONDS)
            later = await self._look()
            if later == now:
                break
            now = later
        return now

    async def _look(self) -> Signature:
        """Return the present signature; a slow file system does not hold up requests."""
        return await asyncio.to_thread(signature, self._followed)
