"""A second process of a child, kept ready for the moment the first one dies."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from igw.child_process import ChildProcess

_LOOK_SECONDS: Final = 1.0
_AGAIN_LOOKS: Final = 10


class Spare:
    """Has a process whose start is done but for the last step, which a line on its standard input makes it take.

    Args:
        command: Path of the program and its arguments.
        on_line: Called with each line of its output once it is taken; None lets it inherit standard output and error.
    """

    def __init__(self, command: Sequence[str], *, on_line: Callable[[str], None] | None) -> None:
        self._command = tuple(command)
        self._on_line = on_line
        self._process: ChildProcess | None = None

    async def keep(self, *, wanted: Callable[[], bool]) -> None:
        """Have one from soon after it is *wanted*, for ever; ends it when cancelled.

        The start of one takes as much of the processor as that of the child itself, which comes first.
        """
        failed = 0
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                if self._process is not None and self._process.exit_code is not None:
                    await self._process.wait()
                    self._process, failed = None, _AGAIN_LOOKS
                elif failed:
                    failed -= 1
                elif self._process is None and wanted():
                    try:
                        self._process = await ChildProcess.spawn(self._command, on_line=self._on_line, waits=True)
                    except OSError:
                        failed = _AGAIN_LOOKS
        finally:
            if self._process is not None:
                self._process.kill()
                await self._process.wait()

    def take(self) -> ChildProcess | None:
        """Start the last step of the process and hand it over; None where there is none."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.exit_code is not None:
            process.kill()
            return None
        process.wake()
        return process
