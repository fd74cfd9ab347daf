"""Faults at random moments, one after the other, and how long the gateway was away after each."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from benchmarks.soak.site import MODEL, Site

_PAUSE_SECONDS: Final = (4.0, 10.0)
_WATCH_SECONDS: Final = 8.0
_PROBE_SECONDS: Final = 0.1
_BROKEN: Final = "apiVersion: [\nkind: Pool\n"


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault.

    Attributes:
        at: Seconds since the start of the soak.
        kind: What was done.
        until: When all of it was over.
        away_seconds: From the fault to the end of the last request without retries that failed; 0: none did.
    """

    at: float
    kind: str
    until: float
    away_seconds: float


class Faults:
    """Strikes until told to stop.

    Args:
        site: What is struck.
        seed: Of the choice.
        started: When the soak began, by `time.monotonic`.
    """

    def __init__(self, site: Site, seed: int, started: float) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._started = started
        self.struck: list[Struck] = []
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "picker killed": lambda: self._send("picker", signal.SIGKILL),
            "picker stopped for 2 s": lambda: self._stop("picker", 2.0),
            "picker hung": lambda: self._send("picker", signal.SIGSTOP),
            "envoy killed": lambda: self._send("envoy", signal.SIGKILL),
            "envoy stopped for 1 s": lambda: self._stop("envoy", 1.0),
            "picker and envoy killed": self._both,
            "model server killed for 3 s": self._server,
            "model server stalls in prefill": lambda: self._server_fault({"kind": "stall-prefill"}),
            "model server resets in prefill": lambda: self._server_fault({"kind": "reset-prefill"}),
            "model server answers 503": lambda: self._server_fault({"kind": "status", "code": 503}),
            "metrics page is noise": lambda: self._server_fault({"kind": "metrics-garbage"}),
            "manifest broken for 2 s": self._manifest,
            "endpoints come and go": self._churn,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Strike at random moments until *stop*."""
        waiting: list[str] = []
        while not stop.is_set():
            await asyncio.sleep(self._random.uniform(*_PAUSE_SECONDS))
            if stop.is_set():
                return
            waiting = waiting or self._random.sample(list(self._kinds), len(self._kinds))
            await self._strike(waiting.pop())

    async def _strike(self, kind: str) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(began))
            await self._kinds[kind]()
        until = time.monotonic() - self._started
        self.struck.append(Struck(began - self._started, kind, until, watching.result()))

    async def _watch(self, began: float) -> float:
        """Return for how long requests without retries failed."""
        away = 0.0
        body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "probe"}]}
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while time.monotonic() - began < _WATCH_SECONDS:
                try:
                    async with session.post(f"{self._site.url}/v1/chat/completions", json=body) as answer:
                        good = answer.status == 200
                        await answer.read()
                except (aiohttp.ClientError, OSError, TimeoutError):
                    good = False
                if not good:
                    away = time.monotonic() - began
                await asyncio.sleep(_PROBE_SECONDS)
        return away

    async def _send(self, name: str, number: signal.Signals) -> None:
        self._site.send(name, number)

    async def _stop(self, name: str, seconds: float) -> None:
        self._site.send(name, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._site.send(name, signal.SIGCONT)

    async def _both(self) -> None:
        self._site.send("picker", signal.SIGKILL)
        self._site.send("envoy", signal.SIGKILL)

    async def _server(self) -> None:
        server = self._random.choice(self._site.servers)
        server.send(signal.SIGKILL)
        await asyncio.sleep(3.0)
        server.start()

    async def _server_fault(self, fault: dict[str, object]) -> None:
        server = self._random.choice(self._site.servers)
        await server.set_faults([fault])
        await asyncio.sleep(5.0)
        await server.set_faults([])

    async def _manifest(self) -> None:
        self._site.write_pool(_BROKEN)
        await asyncio.sleep(2.0)
        self._site.write_pool()

    async def _churn(self) -> None:
        for step in range(20):
            self._site.write_pool(self._site.pool_text(further=50 if step % 2 == 0 else 0))
            await asyncio.sleep(0.25)
        self._site.write_pool()
