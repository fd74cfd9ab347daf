"""Part ``memory``: whether picker and Envoy stay as large as they are over many thousand requests.

No two requests are alike: prompts of 0.2 to 6 KB, request ids, users and, for some, model names that nobody serves.
Most get a JSON answer, some a stream, and some clients leave in the middle of one. What is remembered per prompt,
request or name is thus filled to its bound within the first third, which is not judged; a line is fitted through the
rest.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.fast_server import MODEL
from benchmarks.gateway.arms import ENVOY, GATEWAY, PICKER, Arm, open_arms
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table
from benchmarks.intervals import Estimate
from benchmarks.lean_client import LeanClient
from benchmarks.machine import open_files, resident_bytes
from benchmarks.processes import open_stage

GROWTH_LIMIT: Final = 0.05

_CLIENTS: Final = 16
_SAMPLES: Final = 100
_SETTLE_SECONDS: Final = 1.0
_JUDGED_FROM: Final = 1 / 3
_MIB: Final = 1024 * 1024
_REQUESTS_PER_SECOND: Final = 450.0
_WORD_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_LEAVE_SECONDS: Final = 0.015


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory and files at one moment.

    Attributes:
        requests: Requests until then.
        seconds: Since the first.
        resident_bytes: Memory by process.
        open_files: File descriptors by process.
    """

    requests: int
    seconds: float
    resident_bytes: dict[str, int]
    open_files: dict[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """Samples in order; the first is before the first request."""

    samples: tuple[Sample, ...]
    errors: tuple[str, ...]
    refused: int
    left: int


def expected_seconds(plan: Plan) -> float:
    """Return about how long `measure` takes."""
    return 5 + plan.memory_requests / _REQUESTS_PER_SECOND


class _Requests:
    """Makes requests that differ in all that could be remembered.

    Attributes:
        errors: What failed.
        refused: Requests for models that nobody serves, all answered 404.
        left: Clients that left in the middle of a stream.
    """

    def __init__(self, client: LeanClient, total: int, seed: int) -> None:
        self._client = client
        self._left_to_send = total
        self._random = random.Random(seed)
        self._words = ["".join(self._random.choices(_WORD_LETTERS, k=5)) for _ in range(20_000)]
        self.sent = 0
        self.errors: list[str] = []
        self.refused = 0
        self.left = 0

    async def run_client(self) -> None:
        """Send until the total is reached."""
        while self._left_to_send:
            self._left_to_send -= 1
            await self._one(self._random.random())
            self.sent += 1

    async def _one(self, kind: float) -> None:
        if kind < 0.80:
            await self._chat(self._body(MODEL, events=0), streaming=False)
        elif kind < 0.92:
            await self._chat(self._body(MODEL, events=4), streaming=True)
        elif kind < 0.96:
            body = self._body(f"nobody-serves-{self._random.getrandbits(64):x}", events=0)
            exchange = await self._client.chat(body, streaming=False, headers=self._headers())
            self.refused += 1
            if not exchange.error.startswith("status 404"):
                self.errors.append(exchange.error or "a model that nobody serves was answered")
        else:
            self.left += 1
            await self._client.chat_briefly(
                self._body(MODEL, events=200), seconds=_LEAVE_SECONDS * self._random.random(), headers=self._headers()
            )

    async def _chat(self, body: bytes, *, streaming: bool) -> None:
        exchange = await self._client.chat(body, streaming=streaming, headers=self._headers())
        if exchange.error:
            self.errors.append(exchange.error)

    def _headers(self) -> bytes:
        return f"x-request-id: {self._random.getrandbits(128):032x}\r\n".encode()

    def _body(self, model: str, *, events: int) -> bytes:
        text = " ".join(self._random.choices(self._words, k=self._random.randint(30, 1000)))
        stream = ',"stream":true' if events else ""
        user = f"{self._random.getrandbits(64):x}"
        message = f'{{"role":"user","content":"{text}"}}'
        return (
            f'{{"model":"{model}","max_tokens":{max(1, events)}{stream},"user":"{user}","messages":[{message}]}}'
        ).encode()


async def measure(plan: Plan, progress: Progress) -> Figures:
    """Send all requests and sample memory on the way."""
    async with open_stage(plan.envoy) as stage, open_arms(stage, plan.endpoints, names=(GATEWAY,)) as arms:
        arm = arms.by_name[GATEWAY]
        requests = _Requests(arm.client, plan.memory_requests, plan.seed)
        began = time.monotonic()
        samples = [_sample(arm, 0, 0.0)]
        step = max(1, plan.memory_requests // _SAMPLES)
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(requests.run_client()) for _ in range(_CLIENTS)]
            while not all(client.done() for client in clients):
                await asyncio.sleep(0.02)
                if requests.sent >= samples[-1].requests + step:
                    samples.append(_sample(arm, requests.sent, time.monotonic() - began))
                    sizes = {name: size // _MIB for name, size in samples[-1].resident_bytes.items()}
                    progress.step(requests.sent, plan.memory_requests, f"requests, MiB: {sizes}")
        await asyncio.sleep(_SETTLE_SECONDS)
        samples.append(_sample(arm, requests.sent, time.monotonic() - began))
    return Figures(tuple(samples), tuple(requests.errors), requests.refused, requests.left)


def _sample(arm: Arm, requests: int, seconds: float) -> Sample:
    pids = arm.gateway.pids
    return Sample(
        requests,
        seconds,
        {name: resident_bytes(pid) for name, pid in pids.items()},
        {name: open_files(pid) for name, pid in pids.items()},
    )


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through memory over requests.

    Attributes:
        bytes_per_request: Its slope.
        growth: What it rises over the judged samples, as a share of its value at their beginning.
    """

    bytes_per_request: float
    growth: float


def trend(samples: tuple[Sample, ...], process: str) -> Trend:
    """Return the least-squares line through what is judged: all but the first third of the requests."""
    last = samples[-1].requests
    points = [(s.requests, s.resident_bytes[process]) for s in samples if s.requests >= last * _JUDGED_FROM]
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    begin = mean_y + slope * (points[0][0] - mean_x)
    return Trend(slope, slope * (points[-1][0] - points[0][0]) / begin)


def bars(figures: Figures) -> list[Bar]:
    """Return the bars on growth."""
    requests = figures.samples[-1].requests
    name = f"growth of memory over the last two thirds of {requests:,} requests"
    return [
        Bar(f"{process}, {name}", GROWTH_LIMIT, Estimate.of([trend(figures.samples, process).growth]), "fitted line")
        for process in (PICKER, ENVOY)
    ]


def tables(figures: Figures) -> list[Table]:
    """Return memory at a few moments."""
    samples = figures.samples
    last = samples[-1].requests
    marks = [min(samples, key=lambda s: abs(s.requests - last * share)) for share in (0.0, 1 / 6, 1 / 3, 2 / 3, 1.0)]
    rows = [
        (
            process,
            *(f"{mark.resident_bytes[process] / _MIB:.1f}" for mark in marks),
            f"{trend(samples, process).bytes_per_request:.1f}",
            f"{marks[0].open_files[process]} to {max(s.open_files[process] for s in samples)}",
        )
        for process in (PICKER, ENVOY)
    ]
    heads = ("MiB after", *(f"{mark.requests:,}" for mark in marks), "bytes/request, fitted", "open files")
    note = (
        f"{last:,} requests in {samples[-1].seconds:.0f} s; of them {figures.refused:,} for models that nobody serves, "
        f"{figures.left:,} whose client left."
    )
    return [Table("Memory", heads, rows, note)]
