"""A lean client: it notes when bytes come and what the last ones say, and parses no event."""

import re
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

_TAIL_BYTES: Final = 1024
_HEADERS: Final = {"content-type": "application/json"}
_PROMPT: Final = re.compile(rb'"prompt_tokens": ?(\d+)')
_COMPLETION: Final = re.compile(rb'"completion_tokens": ?(\d+)')
_REQUEST_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer; moments are of `time.perf_counter`.

    Attributes:
        started: When it was sent.
        first: When the first byte of the body came; the end if none did.
        ended: When the answer was complete.
        prompt_tokens: As the answer states; 0 where it does not.
        completion_tokens: Likewise.
        error: What went wrong; empty: nothing.
    """

    started: float
    first: float
    ended: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""

    @property
    def ttft_seconds(self) -> float:
        """Time to the first byte of the body."""
        return self.first - self.started

    @property
    def seconds(self) -> float:
        """Time to the end."""
        return self.ended - self.started

    @property
    def tpot_seconds(self) -> float | None:
        """Mean time per output token after the first; None with fewer than two."""
        return (self.ended - self.first) / (self.completion_tokens - 1) if self.completion_tokens > 1 else None


def new_session() -> aiohttp.ClientSession:
    """Return a session that opens as many connections as there are requests at once."""
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)


async def chat(session: aiohttp.ClientSession, url: str, body: bytes, *, streaming: bool) -> Exchange:
    """Post one chat completion to the gateway at *url* and read the answer to its end; failures are in the result."""
    clock = time.perf_counter
    started = clock()
    first = 0.0
    tail = b""
    try:
        async with session.post(f"{url}/v1/chat/completions", data=body, headers=_HEADERS) as response:
            async for chunk in response.content.iter_any():
                first = first or clock()
                tail = chunk if len(chunk) >= _TAIL_BYTES else (tail + chunk)[-_TAIL_BYTES:]
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        ended = clock()
        return Exchange(started, first or ended, ended, error=f"{type(error).__name__}: {error}")
    ended = clock()
    first = first or ended
    if status != 200:
        return Exchange(started, first, ended, error=f"status {status}: {tail[:200].decode(errors='replace')}")
    if streaming and not tail.rstrip().endswith(b"data: [DONE]"):
        return Exchange(started, first, ended, error="the stream ended without [DONE]")
    return Exchange(started, first, ended, _last(_PROMPT, tail), _last(_COMPLETION, tail))


def _last(pattern: re.Pattern[bytes], tail: bytes) -> int:
    found = pattern.findall(tail)
    return int(found[-1]) if found else 0
