"""The private folder of one running gateway: sockets, Envoy's files, generated manifests; gone when it ends."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from igw.errors import CommandFailed

_PREFIX: Final = "igw-"
_LOCK: Final = ".lock"
_LONGEST_SOCKET_NAME: Final = "/envoy-admin.sock"
# sun_path holds 108 bytes on Linux and 104 on macOS, the last of them zero.
_SOCKET_PATH_BYTES: Final = 103
_YOUNG_SECONDS: Final = 30.0


class RuntimeFolder:
    """Makes a folder that only its owner can enter, and removes it.

    A lock file marks the folder as in use. A gateway that was killed cannot remove its folder, so each start removes
    those whose lock nobody holds.
    """

    def __init__(self) -> None:
        self.path = Path()
        self._lock = -1

    def __enter__(self) -> Self:
        parent = _short_parent()
        _remove_abandoned(parent)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        except OSError as error:
            msg = f"cannot make a temporary folder in {parent}: {error.strerror}"
            raise CommandFailed(msg) from None
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def write_manifests(self, name: str, text: str) -> Path:
        """Write a manifest file by atomic rename, so that no reader sees half of it; return its path."""
        folder = self.path / "manifests"
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / name
        draft = self.path / f"{name}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
        return target


def _short_parent() -> Path:
    parent = Path(tempfile.gettempdir())
    example = f"{parent}/{_PREFIX}xxxxxxxx{_LONGEST_SOCKET_NAME}"
    fallback = Path("/tmp")  # noqa: S108 - mkdtemp makes the folder private; only its short path matters
    return parent if len(os.fsencode(example)) <= _SOCKET_PATH_BYTES else fallback


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            # A folder this young may belong to a gateway that has not taken its lock yet.
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG_SECONDS:
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
