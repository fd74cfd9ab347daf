"""Ctrl-C and its relatives: the first asks to stop, the second to stop at once."""

import asyncio
import signal
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Launchers pass on a signal that the terminal has already sent to the whole group; that pair is one request.
_SAME_REQUEST_SECONDS: Final = 0.3

_T = TypeVar("_T")


class StopSignals:
    """Owns SIGINT, SIGTERM and SIGHUP within its ``with`` block; needs a running loop.

    Attributes:
        stop: Set by the first signal.
        force: Set by a second one.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.force = asyncio.Event()
        self._stopped_at = 0.0

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def receive(self) -> None:
        """Take note of one signal."""
        now = asyncio.get_running_loop().time()
        if not self.stop.is_set():
            self._stopped_at = now
            self.stop.set()
        elif now - self._stopped_at > _SAME_REQUEST_SECONDS:
            self.force.set()


async def run_until(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Run *work* until it ends or *stop* is set; return its result, None if it was stopped.

    Raises:
        Exception: What *work* raised, as it was raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            waiter = group.create_task(stop.wait())
            task.add_done_callback(lambda _: waiter.cancel())
            waiter.add_done_callback(lambda _: task.cancel())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed.exceptions[0].__cause__
    return None if task.cancelled() else task.result()


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait at most *seconds* for *event*; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
