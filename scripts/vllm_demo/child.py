"""A child process in a process group of its own, with a log file and an end that leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

_TERM_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.5
_PROGRESS_SECONDS: Final = 15.0


class ChildFailedError(Exception):
    """A child ended or did not become ready in time; the message carries the end of its log."""


class Child:
    """One started process and whatever it starts itself.

    Attributes:
        name: For messages.
        log_path: Where its output goes.
    """

    def __init__(
        self, name: str, command: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start *command*; *environment* replaces the inherited one, None keeps it."""
        self.name = name
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, which is the id of the group too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process itself still runs."""
        return self._process.poll() is None

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ask it to end, then end whatever is left of its group."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(timeout=_TERM_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{self.name}: still there {_TERM_SECONDS:.0f} s after SIGTERM, killed", flush=True)
        self.kill()

    def kill(self) -> None:
        """End the process and its children at once, like a crash of the machine."""
        with contextlib.suppress(ProcessLookupError):  # the whole group may be gone already
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def wait_until(ready: Callable[[], bool], children: Sequence[Child], subject: str, *, timeout_seconds: float) -> None:
    """Wait for *ready* while all *children* run, with a progress line now and then; ChildFailedError otherwise."""
    started = time.monotonic()
    announced = started
    while not ready():
        now = time.monotonic()
        for child in children:
            if not child.running:
                msg = (
                    f"{child.name} ended while waiting for {subject}; the end of {child.log_path}:\n{child.log_tail()}"
                )
                raise ChildFailedError(msg)
        if now - started > timeout_seconds:
            tails = "\n".join(f"--- {child.log_path}\n{child.log_tail()}" for child in children)
            msg = f"{subject}: not ready after {timeout_seconds:.0f} s\n{tails}"
            raise ChildFailedError(msg)
        if now - announced > _PROGRESS_SECONDS:
            announced = now
            print(f"  {subject}: waiting, {now - started:.0f} s", flush=True)
        time.sleep(_POLL_SECONDS)
    print(f"  {subject}: ready after {time.monotonic() - started:.0f} s", flush=True)
