"""Clients of the official SDK with its default retries, and some that misbehave."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import openai

from benchmarks.soak.site import MODEL

_PAUSE_SECONDS: Final = (0.05, 0.6)
_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that should not have happened.

    Attributes:
        at: Seconds since the start of the soak.
        kind: Kind of request.
        error: What the SDK raised.
        begun: Whether the answer had begun.
    """

    at: float
    kind: str
    error: str
    begun: bool


@dataclass(slots=True)
class Outcomes:
    """What became of all requests; written by the clients.

    Attributes:
        counts: By kind and outcome.
        losses: Requests that failed in spite of the SDK's retries, and answers that were cut.
    """

    counts: Counter[str] = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)


class Clients:
    """Sends mixed requests until told to stop.

    Args:
        url: Of the gateway.
        outcomes: Where results go.
        seed: Of the mix.
        started: When the soak began, by `time.monotonic`.
    """

    def __init__(self, url: str, outcomes: Outcomes, seed: int, started: float) -> None:
        self._url = url
        self._outcomes = outcomes
        self._random = random.Random(seed)
        self._started = started
        self._sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=_TIMEOUT_SECONDS)
        self._kinds: dict[str, tuple[Callable[[], Awaitable[None]], float]] = {
            "json": (self._json, 4),
            "stream": (self._stream, 6),
            "long stream": (self._long_stream, 3),
            "slow reader": (self._slow_reader, 1),
            "large body": (self._large_body, 1),
            "unknown model": (self._unknown_model, 1),
            "bad body": (self._bad_body, 1),
            "leaver": (self._leaver, 2),
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Be one client until *stop*."""
        names = list(self._kinds)
        weights = [weight for _, weight in self._kinds.values()]
        while not stop.is_set():
            [name] = self._random.choices(names, weights)
            await self._one(name, self._kinds[name][0])
            await asyncio.sleep(self._random.uniform(*_PAUSE_SECONDS))

    async def close(self) -> None:
        await self._sdk.close()

    async def _one(self, name: str, request: Callable[[], Awaitable[None]]) -> None:
        try:
            await request()
        except _Cut as cut:
            self._lose(name, cut.error, begun=True)
        except (openai.APIError, aiohttp.ClientError, OSError, TimeoutError, AssertionError, _Unexpected) as error:
            self._lose(name, error, begun=False)
        else:
            self._outcomes.counts[f"{name}: as expected"] += 1

    def _lose(self, name: str, error: Exception, *, begun: bool) -> None:
        self._outcomes.counts[f"{name}: {'cut' if begun else 'failed'}"] += 1
        text = f"{type(error).__name__}: {error}"[:300]
        self._outcomes.losses.append(Loss(time.monotonic() - self._started, name, text, begun))

    def _text(self, size: int) -> str:
        return f"{self._random.random()} " + "word " * (size // 5)

    async def _json(self) -> None:
        answer = await self._sdk.chat.completions.create(
            model=MODEL,
            max_tokens=16,
            messages=[{"role": "user", "content": self._text(self._random.choice([50, 4000]))}],
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0

    async def _stream(self) -> None:
        await self._read(tokens=self._random.choice([8, 32]), pause=0.0)

    async def _long_stream(self) -> None:
        await self._read(tokens=200, pause=0.0)

    async def _slow_reader(self) -> None:
        await self._read(tokens=60, pause=0.1)

    async def _read(self, *, tokens: int, pause: float) -> None:
        stream = await self._sdk.chat.completions.create(
            model=MODEL,
            max_tokens=tokens,
            stream=True,
            messages=[{"role": "user", "content": self._text(400)}],
            extra_body={"ignore_eos": True},
        )
        finished = False
        try:
            async for event in stream:
                finished = finished or (bool(event.choices) and event.choices[0].finish_reason is not None)
                if pause:
                    await asyncio.sleep(pause)
        except (openai.APIError, aiohttp.ClientError, OSError) as error:
            raise _Cut(error) from error
        except Exception as error:  # the SDK lets errors of its transport through while it reads
            raise _Cut(error) from error
        if not finished:
            raise _Cut(AssertionError("a stream ended without its end and without an error"))

    async def _large_body(self) -> None:
        await self._sdk.chat.completions.create(
            model=MODEL,
            max_tokens=4,
            messages=[{"role": "user", "content": self._text(20_000)}],
            extra_body={"padding": "x" * 3_000_000},
        )

    async def _unknown_model(self) -> None:
        try:
            await self._sdk.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}])
        except openai.NotFoundError:
            return
        raise _Unexpected("an unknown model was answered")  # noqa: TRY003, EM101 - a line for the report

    async def _bad_body(self) -> None:
        """A refusal may be one of the gateway's own while a part of it is away; the SDK would try again."""
        async with aiohttp.ClientSession() as session:
            for _ in range(6):
                try:
                    async with session.post(
                        f"{self._url}/v1/chat/completions",
                        data=b'{"model":',
                        headers={"content-type": "application/json"},
                    ) as answer:
                        status = answer.status
                except aiohttp.ClientError:
                    status = 0
                if status == 400:
                    return
                await asyncio.sleep(1.0)
        raise _Unexpected(f"a broken body was answered with {status}")  # noqa: TRY003, EM102 - as above

    async def _leaver(self) -> None:
        body = {"model": MODEL, "stream": True, "max_tokens": 200, "messages": [{"role": "user", "content": "x"}]}
        wait = self._random.uniform(0.0, 0.4)
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(wait):
                    async with session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
                        await answer.read()
            except (TimeoutError, aiohttp.ClientError):
                return


class _Unexpected(Exception):
    """An answer was not what the request deserves."""


class _Cut(Exception):
    """An answer broke after it had begun."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
