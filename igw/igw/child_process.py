"""One child process: its own process group, the last lines it said, and a certain end."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_GUARD: Final = Path(__file__).with_name("guarded_exec.py")
_TAIL_LINES: Final = 20
_LONGEST_LINE: Final = 2000


class OutputTail:
    """Splits a child's output into lines, hands each on and remembers the last few.

    Lines are cut at 2,000 characters, so that memory is bounded whatever the child writes.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._on_line = on_line
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, split anyhow."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            self._take(line)
        self._rest = rest[:_LONGEST_LINE]

    def finish(self) -> None:
        """Take what is left without a line end."""
        self._take(self._rest)
        self._rest = b""

    def _take(self, raw: bytes) -> None:
        line = raw[:_LONGEST_LINE].decode(errors="replace").rstrip()
        if line:
            self.lines.append(line)
            self._on_line(line)


class ChildProcess:
    """A started program. `spawn` makes it; `wait` and `kill` end it.

    Attributes:
        tail: Its last lines of output; stays empty when its output is inherited.
    """

    def __init__(self, process: Process, tail: OutputTail, output: asyncio.StreamReader | None) -> None:
        self.tail = tail
        self._process = process
        self._output = output
        self._reaped = False

    @classmethod
    async def spawn(
        cls, command: Sequence[str], *, on_line: Callable[[str], None] | None, waits: bool = False
    ) -> "ChildProcess":
        """Start *command* in a process group of its own; it cannot outlive this process on Linux.

        Args:
            command: Path of the program and its arguments.
            on_line: Called with each line of output; None lets the child inherit standard output and error.
            waits: It waits for a line on its standard input, which `wake` sends; else it has no input.
        """
        guarded = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *command]
        stdin = PIPE if waits else DEVNULL
        if on_line is None:
            process = await asyncio.create_subprocess_exec(*guarded, stdin=stdin, process_group=0)
            return cls(process, OutputTail(lambda _: None), None)
        # A pipe of our own: with asyncio's, waiting for the child would also wait for heirs that hold the pipe open.
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *guarded, stdin=stdin, stdout=write_end, stderr=write_end, process_group=0
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        output = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(read_end, "rb", buffering=0)
        )
        return cls(process, OutputTail(on_line), output)

    @property
    def pid(self) -> int:
        """Process id, also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, minus the signal's number if one ended it; None while it runs."""
        return self._process.returncode

    def wake(self) -> None:
        """Send the line that it waits for."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(b"\n")
                self._process.stdin.close()

    async def read_output(self) -> None:
        """Read until nobody holds the output open any more; run it beside the child."""
        if self._output is None:
            return
        while chunk := await self._output.read(65536):
            self.tail.feed(chunk)
        self.tail.finish()

    async def wait(self) -> int:
        """Wait for the end and end whatever the child left running; return its exit code."""
        code = await self._process.wait()
        self.kill()
        self._reaped = True
        return code

    async def ended_within(self, seconds: float) -> bool:
        """Wait at most *seconds* for the end; return whether it came."""
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    def terminate(self) -> None:
        """Ask the child, not what it started, to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole process group now; does nothing after `wait`, when its id may name another group."""
        if self._reaped:
            return
        # macOS says EPERM where nothing but unreaped processes is left in the group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def describe_exit(code: int) -> str:
    """Say how a process ended, for a person."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
