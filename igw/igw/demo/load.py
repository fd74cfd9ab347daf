"""A bounded load with the OpenAI SDK: chats, streaming and not, on every model, with nothing retried by the client."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import openai

from igw.demo.outcomes import Outcome, Tally
from igw.stop_signals import set_within

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

_WORKERS: Final = 12
_TIMEOUT_SECONDS: Final = 30.0
# After a failure; a gateway that refuses everything at once is not asked thousands of times.
_PAUSE_SECONDS: Final = 0.5
_MAX_TOKENS: Final = 48
# Each company's chats share a long beginning, which a model server that has seen it need not compute again.
_COMPANIES: Final = ("Acorn", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel", "Ivy", "Juniper", "Larch")
_RULES: Final = "Answer in one short paragraph, politely and to the point. " * 20
_QUESTIONS: Final = (
    "How do I reset my password?",
    "Which plan includes single sign-on?",
    "What does the notice period mean for me?",
    "Why does the build fail on Mondays?",
)


class Load:
    """Keeps a number of chats going until told to stop.

    Args:
        base_url: Address of the gateway, with ``/v1``.
        api_key: Bearer token.
        models: Models to ask, in turn.
        clock: Monotonic seconds.
    """

    def __init__(
        self, base_url: str, *, api_key: str, models: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tally = Tally()
        self._base_url = base_url
        self._api_key = api_key
        self._models = models
        self._clock = clock
        self._numbers = itertools.count()
        self._done = asyncio.Event()

    def finish(self) -> None:
        """Begin no further request."""
        self._done.set()

    def server_killed(self) -> None:
        """Take note that a server dies now, so that the streams it was serving may break."""
        self.tally.kills.append(self._clock())

    async def run(self) -> None:
        """Send requests until `finish`, and wait for the answers."""
        async with (
            openai.AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key,
                # A client that tried again would hide what the gateway did.
                max_retries=0,
                timeout=_TIMEOUT_SECONDS,
                # The gateway is on this machine: no proxy of the environment may stand between.
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(_WORKERS):
                group.create_task(self._work(client))

    async def _work(self, client: openai.AsyncOpenAI) -> None:
        while not self._done.is_set():
            outcome = await self._ask(client, next(self._numbers))
            self.tally.add(outcome)
            if outcome.kind != "ok":
                await set_within(self._done, _PAUSE_SECONDS)

    async def _ask(self, client: openai.AsyncOpenAI, number: int) -> Outcome:
        model = self._models[number % len(self._models)]
        streaming = number // len(self._models) % 3 != 0
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True

        try:
            ask = _stream if streaming else _complete
            tokens = await ask(client, model, number, begin)
        except Exception as error:  # noqa: BLE001 - the border of one request: whatever went wrong is its outcome
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            return Outcome(model, "cut" if begun else "failed", self._clock(), message)
        return Outcome(model, "ok", self._clock(), tokens=tokens)


async def list_models(base_url: str, api_key: str) -> list[str]:
    """Return the names of the models that the gateway lists."""
    async with openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key,
        timeout=_TIMEOUT_SECONDS,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        return [model.id async for model in client.models.list()]


class _IncompleteAnswer(Exception):
    """The answer came to an end without being whole."""


def _messages(number: int) -> "list[ChatCompletionMessageParam]":
    company = _COMPANIES[number % len(_COMPANIES)]
    return [
        {"role": "system", "content": f"{company} Ltd. pays for you, its support desk. {_RULES}"},
        {"role": "user", "content": f"{_QUESTIONS[number % len(_QUESTIONS)]} (case {number})"},
    ]


async def _complete(client: openai.AsyncOpenAI, model: str, number: int, _begin: Callable[[], None]) -> int:
    answer = await client.chat.completions.create(
        model=model,
        messages=_messages(number),
        max_tokens=_MAX_TOKENS,
    )
    if not answer.choices or answer.usage is None:
        msg = "the answer has no choices or no usage"
        raise _IncompleteAnswer(msg)
    return answer.usage.completion_tokens


async def _stream(client: openai.AsyncOpenAI, model: str, number: int, begin: Callable[[], None]) -> int:
    stream = await client.chat.completions.create(
        model=model,
        messages=_messages(number),
        max_tokens=_MAX_TOKENS,
        stream=True,
        stream_options={"include_usage": True},
    )
    finished = False
    tokens = 0
    async for chunk in stream:
        begin()
        finished = finished or any(choice.finish_reason for choice in chunk.choices)
        if chunk.usage is not None:
            tokens = chunk.usage.completion_tokens
    if not finished or not tokens:
        msg = "the stream ended early or without usage"
        raise _IncompleteAnswer(msg)
    return tokens
