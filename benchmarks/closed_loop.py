"""Load from a fixed number of clients that each send the next request when the last one was answered."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

from benchmarks.client import Exchange, chat
from benchmarks.fast_server import MODEL

_SENTENCE: Final = 'The quick brown fox jumps over the lazy dog and says \\"hello\\" to everyone it meets.\\n'


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request.

    Attributes:
        name: For tables.
        prompt_bytes: About how long the prompt is.
        events: Events of the streamed answer; 0: a JSON answer.
    """

    name: str
    prompt_bytes: int
    events: int = 0

    def body(self, number: int) -> bytes:
        """Return request *number*: no two share a prefix, and usage is not asked for."""
        text = (_SENTENCE * (self.prompt_bytes // len(_SENTENCE) + 1))[: self.prompt_bytes].rstrip("\\")
        message = f'{{"role":"user","content":"{number:012d} {text}"}}'
        stream = ',"stream":true' if self.events else ""
        return f'{{"model":"{MODEL}","max_tokens":{max(1, self.events)}{stream},"messages":[{message}]}}'.encode()


async def closed_loop(
    session: aiohttp.ClientSession, url: str, workload: Workload, *, concurrency: int, seconds: float, first: int = 0
) -> list[Exchange]:
    """Send *workload* with *concurrency* clients for *seconds*; answers under way are read to their end."""
    exchanges: list[Exchange] = []
    end = time.perf_counter() + seconds
    numbers = iter(range(first, first + 100_000_000))
    template = workload.body(0)
    at = template.index(b"000000000000")
    head, rest = template[:at], template[at + 12 :]

    async def one_client() -> None:
        while time.perf_counter() < end:
            body = b"%b%012d%b" % (head, next(numbers), rest)
            exchanges.append(await chat(session, url, body, streaming=workload.events > 0))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(one_client())
    return exchanges
