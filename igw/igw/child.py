"""What a supervised child is told to be, and what its supervisor knows of it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from igw.child_process import ChildProcess
from igw.errors import CommandFailed
from igw.liveness import Liveness


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run and how to treat it.

    Attributes:
        name: What messages call it.
        command: Path of the program and its arguments.
        is_ready: Asked again and again after a start; returns "" when ready, else what is missing; bounded in time.
        ready_timeout_seconds: A start that takes longer has failed.
        stop_timeout_seconds: From the polite signal to SIGKILL; 0: no polite signal, for what has nothing to finish.
        before_stop: Awaited before the polite signal, such as a drain; bounded in time.
        inherit_output: Let it write to our standard error; else its lines are kept for messages.
        echo: Report its lines as events while it is ready.
        restart: Start it again when it ends by itself.
        liveness: How it is asked, once ready, whether it still works; one that hangs is killed. None: never asked.
        spare_command: Starts a process that is ready but for a line on its standard input; one is kept for the death of
            the child. Empty: none.
        stand_in: Makes what does its work from its death until it is ready again; None: nobody does.
    """

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], Awaitable[str]]
    ready_timeout_seconds: float = 30.0
    stop_timeout_seconds: float = 5.0
    before_stop: Callable[[], Coroutine[Any, Any, None]] | None = None
    inherit_output: bool = False
    echo: bool = False
    restart: bool = True
    liveness: Liveness | None = None
    spare_command: tuple[str, ...] = ()
    stand_in: Callable[[], AbstractAsyncContextManager[object]] | None = None


class ChildFailed(CommandFailed):
    """A child did not become ready.

    Attributes:
        child_exit_code: Its exit code; None: it was still running.
    """

    def __init__(self, message: str, *, child_exit_code: int | None) -> None:
        super().__init__(message)
        self.child_exit_code = child_exit_code


@dataclass(slots=True, eq=False)
class Child:
    """A supervised child; written by its supervisor only.

    Attributes:
        spec: What it is.
        place: Place in the order of starting.
        process: The running or last process.
        restarts: How often it was started again.
        ready: Whether it is ready now.
        back: What its stand-in waits for; None while it has none.
    """

    spec: ChildSpec
    place: int
    process: ChildProcess | None = None
    restarts: int = 0
    ready: bool = False
    back: asyncio.Event | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
