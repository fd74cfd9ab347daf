"""One task per endpoint, for as long as the endpoint is among the targets."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from endpoint_picker.datalayer.endpoint_page import PageTarget


class EndpointTasks:
    """Keeps one running task per target; targets may change at any time, in the event loop's thread.

    Args:
        work: What the task of a target does, for ever; it handles its own errors.
    """

    def __init__(self, work: Callable[[PageTarget], Awaitable[None]]) -> None:
        self._work = work
        self._targets: dict[str, PageTarget] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def set_targets(self, targets: Iterable[PageTarget]) -> frozenset[str]:
        """Replace all targets; of two with one address the last counts. Return the addresses that are gone.

        The task of an unchanged target goes on undisturbed, that of a changed one starts anew.
        """
        wanted = {target.address: target for target in targets}
        gone = frozenset(self._targets.keys() - wanted.keys())
        changed = {address for address, target in wanted.items() if self._targets.get(address) != target}
        self._targets = wanted
        for address in gone | changed:
            task = self._tasks.pop(address, None)
            if task is not None:
                task.cancel()
        for address in changed:
            self._start(wanted[address])
        return gone

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            RuntimeError: It is running already.
        """
        if self._group is not None:
            msg = "the endpoint tasks run already"
            raise RuntimeError(msg)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for target in self._targets.values():
                    self._start(target)
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._tasks.clear()

    def _start(self, target: PageTarget) -> None:
        if self._group is not None:
            self._tasks[target.address] = self._group.create_task(self._run_one(target))

    async def _run_one(self, target: PageTarget) -> None:
        await self._work(target)
        msg = "an endpoint task returned"
        raise RuntimeError(msg)
