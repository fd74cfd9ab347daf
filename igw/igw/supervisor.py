"""Keeps child processes running: starts, waits until ready, restarts with back-off, and leaves none behind.

One task per child walks these states; each line names what leads on:

    starting   -> ready (it says so) | failed (it ended or took too long)
    ready      -> waiting (it ended, or hung and was ended) | stopped (asked to)
    waiting    -> starting (back-off over) | stopped (asked to)
    failed     -> gone, if it never was ready; else waiting
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from igw.backoff import Backoff
from igw.child import Child, ChildFailed, ChildSpec
from igw.child_process import ChildProcess, describe_exit
from igw.spare import Spare
from igw.stop_signals import run_until, set_within

_POLL_SECONDS: Final = 0.05
_KILL_SECONDS: Final = 5.0


class Supervisor:
    """Owns children within its ``async with`` block; leaving it stops them in reverse order of their start.

    Args:
        report: Told one line per event worth knowing.
        force: When set, stopping turns into killing.
        backoff: Delays between restarts.
        chance: Source of their jitter.
    """

    def __init__(
        self,
        *,
        report: Callable[[str], None],
        force: asyncio.Event,
        backoff: Backoff | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._report = report
        self._force = force
        self._backoff = backoff or Backoff()
        self._chance = chance or random.Random()  # noqa: S311 - spreads restarts, guards nothing
        self._group = asyncio.TaskGroup()
        self._children: list[Child] = []
        self._started = 0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop_all()
        finally:
            for child in self._children:
                child.stopping.set()
                if child.process is not None and not child.gone.is_set():
                    child.process.kill()
            # Not told of the block's own exception, which then leaves the block as it is and not in a group.
            await self._group.__aexit__(None, None, None)

    async def start(self, spec: ChildSpec, *, in_place_of: Child | None = None) -> Child:
        """Start a child and return it once it is ready.

        Args:
            spec: What to run.
            in_place_of: An ended child whose place in the order of stopping this one takes; None: it is stopped first.

        Raises:
            ChildFailed: It ended or was not ready in time; it has been removed.
        """
        if in_place_of is None:
            self._started += 1
        child = Child(spec, self._started if in_place_of is None else in_place_of.place)
        first = asyncio.get_running_loop().create_future()
        self._children.append(child)
        self._group.create_task(self._supervise(child, first), name=f"supervise {spec.name}")
        failure: ChildFailed | None = await first
        if failure is not None:
            await child.gone.wait()
            raise failure
        return child

    async def kill(self, child: Child) -> None:
        """End a child at once, as a crash would, and do not restart it."""
        child.stopping.set()
        if child.process is not None:
            child.process.kill()
        await child.gone.wait()

    async def stop_all(self) -> None:
        """Stop every child, the last started first."""
        for child in sorted(self._children, key=lambda child: child.place, reverse=True):
            await self._stop(child)

    async def _stop(self, child: Child) -> None:
        child.stopping.set()
        process = child.process
        if process is not None and process.exit_code is None:
            if child.ready and child.spec.before_stop is not None and not self._force.is_set():
                await run_until(self._force, child.spec.before_stop())
            if not self._force.is_set() and child.spec.stop_timeout_seconds > 0:
                process.terminate()
                await run_until(self._force, process.ended_within(child.spec.stop_timeout_seconds))
            if process.exit_code is None:
                if not self._force.is_set() and child.spec.stop_timeout_seconds > 0:
                    self._report(f"{child.spec.name} did not end in time and is killed")
                process.kill()
        await child.gone.wait()

    async def _supervise(self, child: Child, first: "asyncio.Future[ChildFailed | None]") -> None:
        failures = 0
        spare = Spare(child.spec.spare_command, on_line=self._line_handler(child))
        keeping = self._group.create_task(spare.keep(wanted=lambda: bool(child.spec.spare_command) and child.ready))
        try:
            while not child.stopping.is_set():
                outcome = await self._run_once(child, first, spare)
                if child.stopping.is_set():
                    break
                if not child.spec.restart:
                    self._report(f"{child.spec.name} {outcome.message}")
                    break
                if child.spec.stand_in is not None and child.back is None:
                    child.back = asyncio.Event()
                    self._group.create_task(_stand_in(child.spec.stand_in(), child.back))
                failures = self._backoff.failures_after(failures, outcome.ready_seconds)
                delay = self._backoff.delay_seconds(failures, self._chance, was_ready=outcome.was_ready)
                self._report(f"{child.spec.name} {outcome.message}; starting it again in {delay:.1f} s")
                if await set_within(child.stopping, delay):
                    break
                child.restarts += 1
        finally:
            keeping.cancel()
            if child.process is not None:
                child.process.kill()
            self._children.remove(child)
            _end_stand_in(child)
            child.gone.set()
            if not first.done():
                first.set_result(ChildFailed(f"{child.spec.name} was stopped", child_exit_code=None))

    async def _run_once(self, child: Child, first: "asyncio.Future[ChildFailed | None]", spare: Spare) -> "_Outcome":
        """Run one process of *child* from start to end."""
        spec = child.spec
        try:
            process = spare.take() or await ChildProcess.spawn(spec.command, on_line=self._line_handler(child))
            child.process = process
        except OSError as error:
            return self._never_ready(child, first, f"cannot be started: {error.strerror}", None)
        if child.stopping.is_set():
            process.kill()
        loop = asyncio.get_running_loop()
        ready_at: float | None = None
        silence = _Silence()
        async with asyncio.TaskGroup() as group:
            group.create_task(process.read_output())
            missing = await self._wait_until_ready(child, process)
            early_exit_code = process.exit_code
            if missing:
                process.kill()
            else:
                child.ready = True
                ready_at = loop.time()
                if not first.done():
                    first.set_result(None)
                else:
                    _end_stand_in(child)
                    self._report(f"{spec.name} is ready again")
            watch = group.create_task(self._end_when_silent(child, process, silence)) if child.ready else None
            code = await process.wait()
            child.ready = False
            if watch is not None:
                watch.cancel()
        if ready_at is None:
            return self._never_ready(child, first, missing, early_exit_code)
        return _Outcome(silence.message or f"ended with {describe_exit(code)}", loop.time() - ready_at, was_ready=True)

    @staticmethod
    async def _end_when_silent(child: Child, process: ChildProcess, silence: "_Silence") -> None:
        """Kill *process* once it hangs; a child that is being stopped has a time limit of its own."""
        if child.spec.liveness is None:
            return
        seconds = await child.spec.liveness.until_silent()
        if not child.stopping.is_set():
            silence.message = f"did not answer for {seconds:.0f} s and was killed"
            process.kill()

    def _never_ready(
        self, child: Child, first: "asyncio.Future[ChildFailed | None]", why: str, exit_code: int | None
    ) -> "_Outcome":
        if not first.done() and not child.stopping.is_set():
            tail = child.process.tail.lines if child.process is not None else ()
            message = "\n  ".join([f"{child.spec.name} {why}", *tail])
            first.set_result(ChildFailed(message, child_exit_code=exit_code))
            child.stopping.set()
        return _Outcome(why, 0.0)

    async def _wait_until_ready(self, child: Child, process: ChildProcess) -> str:
        """Return "" once *process* is ready, else why it never will be."""
        loop = asyncio.get_running_loop()
        limit = child.spec.ready_timeout_seconds
        deadline = loop.time() + limit
        missing = ""
        while not child.stopping.is_set():
            if process.exit_code is not None:
                return f"ended with {describe_exit(process.exit_code)} before it was ready"
            missing = await child.spec.is_ready()
            if not missing:
                return ""
            if loop.time() > deadline:
                return f"was not ready within {limit:g} s: {missing}"
            await process.ended_within(_POLL_SECONDS)
        # Asked to stop while starting: whoever asked signals the process; this only waits for its end.
        await process.ended_within(child.spec.stop_timeout_seconds + _KILL_SECONDS)
        return "was stopped while starting"

    def _line_handler(self, child: Child) -> Callable[[str], None] | None:
        if child.spec.inherit_output:
            return None

        def report(line: str) -> None:
            # What it says while starting matters if it fails, and is then shown; how it says good-bye never does.
            if child.spec.echo and child.ready and not child.stopping.is_set():
                self._report(f"{child.spec.name}: {line}")

        return report


async def _stand_in(stand_in: AbstractAsyncContextManager[object], back: asyncio.Event) -> None:
    async with stand_in:
        await back.wait()


def _end_stand_in(child: Child) -> None:
    if child.back is not None:
        child.back.set()
        child.back = None


@dataclass(slots=True)
class _Silence:
    """Why a hanging child was killed; empty while it was not."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    message: str
    ready_seconds: float
    was_ready: bool = False
