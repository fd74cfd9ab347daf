"""The load of a soak: official SDK clients with their default two retries, and clients that behave badly."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import openai

from benchmarks.soak.history import Ending, History, Request

MODEL: Final = "soak"
_MOST_AT_ONCE: Final = 64
_TIMEOUT_SECONDS: Final = 180.0
_WORDS: Final = ("river", "stone", "lantern", "orchard", "meadow", "copper", "harbour", "thistle", "window", "marble")
_RETRIED: Final = (408, 409, 429)


@dataclass(slots=True)
class Progress:
    """How far one request has come; written by what reads the answer."""

    begun: bool = False
    finished: bool = False
    server: str = ""


Ask = Callable[["Load", Progress], Awaitable[Ending]]


@dataclass(slots=True)
class Load:
    """Sends requests at random moments until it is left, and then waits for the last answers.

    Args:
        url: Of the gateway, with ``/v1``.
        rate: Requests per second on average.
        chance: Decides what is asked and when.
        history: Is told how each request ended.
    """

    url: str
    rate: float
    chance: random.Random
    history: History
    under_way: int = 0
    held_back: int = 0
    _group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _client: openai.AsyncOpenAI | None = None

    async def __aenter__(self) -> Self:
        # The gateway is on this machine: no proxy of the environment may stand between.
        http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
        self._client = openai.AsyncOpenAI(
            base_url=self.url, api_key="none", timeout=_TIMEOUT_SECONDS, http_client=http_client
        )
        await self._group.__aenter__()
        self._group.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        await self._group.__aexit__(kind, error, trace)
        await self.client.close()

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The official client; retries twice, as it does by default."""
        assert self._client is not None
        return self._client

    def prompt(self, size: int) -> str:
        """Return a text of about *size* characters that shares its beginning with few others."""
        text = " ".join(self.chance.choices(_WORDS, k=min(200, size // 7 + 1)))
        return (text * (size // len(text) + 1))[:size]

    async def _send(self) -> None:
        names, weights = list(ASKS), [weight for weight, _ in ASKS.values()]
        while not self._over.is_set():
            await asyncio.sleep(self.chance.expovariate(self.rate))
            name = self.chance.choices(names, weights)[0]
            if self.under_way < _MOST_AT_ONCE:
                self.under_way += 1
                self._group.create_task(self._one(name, ASKS[name][1]))
            else:
                self.held_back += 1

    async def _one(self, name: str, ask: Ask) -> None:
        began = time.monotonic()
        progress = Progress()
        detail = ""
        try:
            ending = await ask(self, progress)
        except Exception as error:  # noqa: BLE001 - the border of one request: whatever went wrong is its outcome
            detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            ending = _ending_of(error, progress)
        finally:
            self.under_way -= 1
        self.history.requests.append(Request(name, began, time.monotonic(), ending, detail, progress.server))


def _ending_of(error: Exception, progress: Progress) -> Ending:
    if progress.begun:
        return Ending.CUT
    if isinstance(error, openai.APIStatusError) and error.status_code < 500 and error.status_code not in _RETRIED:
        return Ending.WRONG  # the SDK does not even try again
    return Ending.LOST


def _messages(content: str) -> list[Any]:
    return [{"role": "user", "content": content}]


async def _whole(load: Load, progress: Progress, *, size: int, tokens: int) -> Ending:
    raw = await load.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=_messages(load.prompt(size)), max_tokens=tokens
    )
    progress.server = raw.headers.get("x-simulated-server", "")
    answer = raw.parse()
    return Ending.ANSWERED if answer.choices and answer.choices[0].finish_reason else Ending.WRONG


async def _stream(
    load: Load, progress: Progress, *, size: int, tokens: int, leave_after: int = 0, pause: float = 0.0
) -> Ending:
    """Read a stream; leave after some events, or pause after each, where that is asked."""
    stream = await load.client.chat.completions.create(
        model=MODEL, messages=_messages(load.prompt(size)), max_tokens=tokens, stream=True
    )
    progress.server = stream.response.headers.get("x-simulated-server", "")
    events = 0
    try:
        async for event in stream:
            progress.begun = True
            events += 1
            progress.finished = progress.finished or any(choice.finish_reason for choice in event.choices)
            if leave_after and events >= leave_after:
                return Ending.ABORTED
            if pause:
                await asyncio.sleep(pause)
    finally:
        await stream.close()
    return Ending.ANSWERED if progress.finished else Ending.SILENT


async def _short_answer(load: Load, progress: Progress) -> Ending:
    return await _whole(load, progress, size=load.chance.randint(20, 2000), tokens=load.chance.randint(1, 32))


async def _short_stream(load: Load, progress: Progress) -> Ending:
    return await _stream(load, progress, size=load.chance.randint(20, 2000), tokens=load.chance.randint(4, 48))


async def _long_stream(load: Load, progress: Progress) -> Ending:
    return await _stream(load, progress, size=500, tokens=load.chance.randint(200, 500))


async def _large_prompt(load: Load, progress: Progress) -> Ending:
    return await _whole(load, progress, size=load.chance.randint(50_000, 120_000), tokens=4)


async def _huge_prompt(load: Load, progress: Progress) -> Ending:
    """A prompt of some megabytes, which the model server refuses as too long for the model."""
    try:
        await _whole(load, progress, size=load.chance.randint(1_500_000, 4_000_000), tokens=4)
    except openai.BadRequestError as error:
        return Ending.ANSWERED if error.code == "context_length_exceeded" or "context" in str(error) else Ending.WRONG
    return Ending.WRONG


async def _slow_reader(load: Load, progress: Progress) -> Ending:
    return await _stream(load, progress, size=100, tokens=100, pause=0.05)


async def _aborted_stream(load: Load, progress: Progress) -> Ending:
    return await _stream(load, progress, size=100, tokens=200, leave_after=load.chance.randint(1, 20))


async def _aborted_early(load: Load, progress: Progress) -> Ending:
    try:
        async with asyncio.timeout(load.chance.uniform(0.001, 0.3)):
            return await _stream(load, progress, size=20_000, tokens=50)
    except TimeoutError:
        return Ending.ABORTED


async def _unknown_model(load: Load, progress: Progress) -> Ending:
    del progress
    try:
        await load.client.chat.completions.create(model=f"unknown-{load.chance.random()}", messages=_messages("?"))
    except openai.NotFoundError:
        return Ending.ANSWERED
    return Ending.WRONG


async def _bad_body(load: Load, progress: Progress) -> Ending:
    del progress
    body = load.chance.choice((b"{", b"[]", b'{"model": 7}', b"\xff\xfe", b'{"model": "soak", "model": "soak"}', b""))
    try:
        await load.client.post("/chat/completions", cast_to=object, content=body)
    except (openai.BadRequestError, openai.NotFoundError):
        return Ending.ANSWERED
    return Ending.WRONG


ASKS: Final[Mapping[str, tuple[float, Ask]]] = {
    "short answer": (30.0, _short_answer),
    "short stream": (34.0, _short_stream),
    "long stream": (10.0, _long_stream),
    "large prompt": (4.0, _large_prompt),
    "huge prompt": (1.0, _huge_prompt),
    "slow reader": (3.0, _slow_reader),
    "leaves in a stream": (4.0, _aborted_stream),
    "leaves early": (4.0, _aborted_early),
    "unknown model": (4.0, _unknown_model),
    "bad body": (4.0, _bad_body),
}
"""What clients ask for: weight, and the asking."""
