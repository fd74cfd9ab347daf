"""What a fuzzer found: one input for each place and kind of failure, made small, kept as a file."""

import hashlib
import time
import traceback
from pathlib import Path

from fuzz.target import Target

_MINIMIZING_SECONDS = 30.0


def signature(error: BaseException) -> str:
    """Name a failure by its type and the places it came through, so that each is reported once."""
    frames = traceback.extract_tb(error.__traceback__)
    places = "/".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:])
    return f"{type(error).__name__}-{hashlib.sha256(places.encode()).hexdigest()[:8]}"


def failure(target: Target, data: bytes) -> BaseException | None:
    """Return what *data* makes the check raise."""
    try:
        target.check(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return error
    return None


def minimized(target: Target, data: bytes, wanted: str) -> bytes:
    """Return a smaller input with the same failure: pieces are left out while that keeps it."""
    stop = time.monotonic() + _MINIMIZING_SECONDS
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data) and time.monotonic() < stop:
            shorter = data[:at] + data[at + size :]
            error = failure(target, shorter)
            if error is not None and signature(error) == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data


class Findings:
    """Collects the failures of one run of one target.

    Attributes:
        files: Where each is kept.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._seen: set[str] = set()
        self.files: list[Path] = []

    def add(self, data: bytes, error: BaseException) -> None:
        """Keep *data* if this failure is new."""
        name = signature(error)
        if name in self._seen:
            return
        self._seen.add(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / name
        file.write_bytes(data)
        if not isinstance(error, AssertionError) or "took" not in str(error):
            file.write_bytes(minimized(self._target, data, name))
        self.files.append(file)
        last = traceback.format_exception(error)
        print(f"{self._target.name}: FINDING {file}\n{''.join(last[-3:])}", flush=True)
        print(f'  again: make fuzz ARGS="--target {self._target.name} --input {file}"', flush=True)
