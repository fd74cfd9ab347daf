"""``igw up`` as a process, and official SDK clients that load it and note what they lose."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import openai
import yaml

from integration.standalone import chat, eventually

ChildName = Literal["envoy", "picker"]
SAID_AS = {"envoy": "envoy", "picker": "endpoint picker"}
SLOW_MACHINE_SECONDS = 60.0
"""For what takes two seconds on a machine of its own."""


def alive(pid: int) -> bool:
    """Whether *pid* runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Every process that *pid* has started, and what those have."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


class IgwUp:
    """A running ``igw up`` in a folder of its own; ``async with`` starts and ends it.

    Args:
        documents: Manifests at the start.
        arguments: Further arguments.
    """

    def __init__(self, documents: Iterable[Mapping[str, Any]], *arguments: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="igw-u-", dir="/tmp"))
        self.manifest = self.folder / "manifest.yaml"
        self.write_manifests(*documents)
        self._arguments = arguments
        self.process: asyncio.subprocess.Process | None = None
        self.output: list[str] = []
        self.url = self.admin_url = ""
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None

    def add_arguments(self, *arguments: str) -> None:
        """Add to the arguments before the start, such as the path of a file in `folder`."""
        self._arguments += arguments

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "igw", "up", "--port", "0", "--admin-port", "0", "-f", str(self.manifest)),
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(os.environ, TMPDIR=str(self.folder), NO_COLOR="1"),  # noqa: TID251 - a child's environment
        )
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(self._read(self.process))
        await eventually(self._is_ready, seconds=SLOW_MACHINE_SECONDS, what="igw up did not become ready")
        self.url = self._said(r"URL +(http://\S+)/v1")
        self.admin_url = self._said(r"--admin (http://\S+)")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        if error is not None:
            print("".join(self.output)[-6000:])  # noqa: T201 - pytest shows it beside the failure
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._stack.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.output.append(line.decode())

    async def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, "".join(self.output)
        return any(line.startswith("  status ") for line in self.output)

    def _said(self, pattern: str) -> str:
        found = re.search(pattern, "".join(self.output))
        return found[1] if found else ""

    @property
    def recent_output(self) -> str:
        """What it said last, for the report of a failed test."""
        return "".join(self.output)[-4000:]

    def write_manifests(self, *documents: Mapping[str, Any]) -> None:
        """Replace all manifests at once."""
        draft = self.manifest.with_suffix(".new")
        draft.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        draft.rename(self.manifest)

    # -- children ---------------------------------------------------------------------------------------------------

    async def pid(self, name: ChildName) -> int:
        """Process id of a child that is ready."""
        if name == "picker":
            return int((await self.debug_state())["pid"])
        assert self.process is not None
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):
                if b"bootstrap.json" in Path(f"/proc/{pid}/cmdline").read_bytes():  # noqa: ASYNC240 - no disk
                    return pid
        raise LookupError(name)

    def returns(self, name: ChildName) -> int:
        """How often a child was ready again."""
        return sum(f"igw: {SAID_AS[name]} is ready again" in line for line in self.output)

    async def strike(self, number: signal.Signals, *names: ChildName) -> None:
        """Send a signal to children and wait until each has been replaced by one that is ready."""
        before = {name: self.returns(name) for name in names}
        for pid in [await self.pid(name) for name in names]:
            os.kill(pid, number)

        async def back() -> bool:
            return all(self.returns(name) > before[name] for name in names)

        await eventually(back, seconds=SLOW_MACHINE_SECONDS, what=f"{names} did not come back")

    # -- pages ------------------------------------------------------------------------------------------------------

    async def debug_state(self) -> dict[str, Any]:
        assert self._session is not None
        async with self._session.get(f"{self.admin_url}/debug/state") as response:
            return dict(await response.json())

    async def settled(self) -> None:
        """Wait until the ledger is empty."""

        async def idle() -> bool:
            return int((await self.debug_state())["in_flight"]) == 0

        await eventually(idle, seconds=SLOW_MACHINE_SECONDS, what="requests stayed in the ledger")


@dataclass(slots=True)
class SdkLoad:
    """Official clients with their default two retries; ``async with`` runs them, and leaving it lets them finish.

    Attributes:
        targets: Base URLs and models, asked in turn, each for a whole answer and for a stream.
        workers: Clients.
        answered: Complete answers.
        lost: What no retry recovered before anything had come, as text.
        cut: Streams that ended in an error after they had begun, as text.
        silent: Streams that ended early without an error: what must never be.
    """

    targets: tuple[tuple[str, str], ...]
    workers: int = 6
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for number in range(self.workers):
            self._group.create_task(self._work(number))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        await self._group.__aexit__(kind, error, trace)

    async def more(self, answers: int) -> None:
        """Wait until so many more answers are complete."""
        wanted = self.answered + answers

        async def enough() -> bool:
            return self.answered >= wanted

        await eventually(enough, seconds=SLOW_MACHINE_SECONDS, what="the load stands still")

    async def _work(self, number: int) -> None:
        turn = number
        async with openai.AsyncOpenAI(base_url=self.targets[0][0], api_key="none") as client:
            clients = [(client.with_options(base_url=url), model) for url, model in self.targets]
            while not self._over.is_set():
                turn += 1
                await self._ask(*clients[turn // 2 % len(clients)], streaming=turn % 2 == 0)

    async def _ask(self, client: openai.AsyncOpenAI, model: str, *, streaming: bool) -> None:
        began = time.monotonic()
        events = 0
        finished = False
        try:
            if streaming:
                async for event in await client.chat.completions.create(**chat(model, max_tokens=60, stream=True)):
                    events += 1
                    finished = finished or any(choice.finish_reason for choice in event.choices)
            else:
                answer = await client.chat.completions.create(**chat(model))
                finished = bool(answer.choices[0].finish_reason)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is noted
            seconds = time.monotonic() - began
            (self.cut if events else self.lost).append(f"{model} {seconds:.1f} s: {type(error).__name__}: {error}")
            return
        if finished:
            self.answered += 1
        else:
            self.silent.append(model)
