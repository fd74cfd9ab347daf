"""Tells a child that hangs from one that works: it is asked again and again, and has to answer."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

_PAUSE_AFTER_MISS_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Liveness:
    """How a child is asked whether it still works.

    Silence is taken for a hang only while this process itself gets its turns: on a machine that was suspended, or has
    no time for anybody, the child is not to blame.

    Attributes:
        answers: Returns whether the child said anything at all; may take long, it is cut off.
        interval_seconds: Pause between two questions.
        timeout_seconds: How long one answer may take.
        misses: So many questions in a row without an answer mean that it hangs.
        starved_seconds: A question that took so much longer than it could was asked on a machine without time.
    """

    answers: Callable[[], Awaitable[bool]]
    interval_seconds: float = 1.0
    timeout_seconds: float = 2.0
    misses: int = 3
    starved_seconds: float = 1.0

    @property
    def longest_seconds(self) -> float:
        """After so long at the latest a hang is noticed."""
        return self.interval_seconds + self.misses * (self.timeout_seconds + _PAUSE_AFTER_MISS_SECONDS)

    async def until_silent(self) -> float:
        """Wait until the child has not answered for too long; return for how many seconds it has not."""
        loop = asyncio.get_running_loop()
        missed = 0
        silent_since = loop.time()
        while missed < self.misses:
            pause = _PAUSE_AFTER_MISS_SECONDS if missed else self.interval_seconds
            asked = loop.time()
            await asyncio.sleep(pause)
            answered = await self._ask()
            starved = loop.time() - asked > pause + self.timeout_seconds + self.starved_seconds
            if answered or starved:
                missed, silent_since = 0, loop.time()
            else:
                missed += 1
        return loop.time() - silent_since

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self.answers()
        except TimeoutError:
            return False
