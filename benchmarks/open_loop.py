"""Load that comes when the trace says, whether or not earlier requests have been answered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from benchmarks.client import Exchange, chat
from benchmarks.prompts import chat_body
from benchmarks.quantiles import Summary
from benchmarks.trace_files import TraceRequest

_PROGRESS_SECONDS: Final = 15.0
_RECENT: Final = 100


@dataclass(frozen=True, slots=True)
class Replayed:
    """One request of a trace and what became of it.

    Attributes:
        request: As asked.
        exchange: As answered.
        late_seconds: How much later than planned it was sent.
    """

    request: TraceRequest
    exchange: Exchange
    late_seconds: float


class OpenLoop:
    """Replays requests against one gateway and tells of its progress.

    Args:
        session: HTTP client.
        url: The gateway.
        name: For progress lines.
        seed: Of the prompts' text.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, *, name: str, seed: int) -> None:
        self._session = session
        self._url = url
        self._name = name
        self._seed = seed
        self._sent = 0
        self._done: list[Replayed] = []

    async def replay(self, requests: Sequence[TraceRequest], *, first_number: int = 0) -> list[Replayed]:
        """Send *requests* at their seconds and return all once the last is answered, in order of their ends.

        *first_number* is the number of the first one in its trace; texts follow from numbers.
        """
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            progress = group.create_task(self._tell(len(requests), began))
            async with asyncio.TaskGroup() as clients:
                for number, request in enumerate(requests, start=first_number):
                    body = chat_body(request, number, self._seed)
                    planned = began + request.seconds
                    await asyncio.sleep(max(0.0, planned - time.perf_counter()))
                    clients.create_task(self._one(request, body, planned))
                    self._sent += 1
            progress.cancel()
        return self._done

    async def _one(self, request: TraceRequest, body: bytes, planned: float) -> None:
        exchange = await chat(self._session, self._url, body, streaming=True)
        self._done.append(Replayed(request, exchange, exchange.started - planned))

    async def _tell(self, total: int, began: float) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            recent = [one.exchange for one in self._done[-_RECENT:]]
            ttft = Summary.of([exchange.ttft_seconds for exchange in recent if not exchange.error])
            errors = sum(1 for one in self._done if one.exchange.error)
            print(
                f"  {self._name} {time.perf_counter() - began:4.0f} s: {self._sent}/{total} sent, "
                f"{self._sent - len(self._done)} in flight, {errors} failed, recent TTFT p50 {ttft.p50:.2f} s",
                flush=True,
            )
