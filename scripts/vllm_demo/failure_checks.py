"""One server is killed under load: what had not started moves to the other one, what had started ends with an error."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import httpx
from gateway import Gateway
from metrics_checks import Reading
from openai import OpenAI, OpenAIError
from report import CheckFailedError, require
from servers import MODEL, ModelServer

_CONCURRENT: Final = 16
_REQUESTS: Final = 96
_KILL_AFTER: Final = 16
_TOKENS: Final = 32
_AFTERWARDS: Final = 12
_SEEN_LATE_SECONDS: Final = 2.0
"""How much later than the first byte left the server a busy client may notice it."""
_PHASE_SECONDS: Final = 300.0
_REQUEST_SECONDS: Final = 120.0


class Ending(StrEnum):
    """How a request ended, seen from the client."""

    COMPLETE = "complete"
    REFUSED = "refused before it started"
    BROKEN = "ended by an error after it started"
    CUT_SHORT = "ended early without an error"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request; *started_at* is when the client first heard of the answer, None if never."""

    ending: Ending
    streamed: bool
    started_at: float | None
    error: str = ""


class FailureChecks:
    """The check that costs a server; it comes last."""

    def __init__(self, gateway: Gateway, servers: tuple[ModelServer, ...]) -> None:
        """The last of *servers* is the one that dies."""
        self._gateway = gateway
        self._survivors, self._victim = servers[:-1], servers[-1]
        self._client = OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=_REQUEST_SECONDS)
        self._ended = threading.Semaphore(0)

    def table(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the checks with their names, in the order they must run."""
        return [
            ("a server is killed under load", self.kill_under_load),
            ("the other server takes everything afterwards", self.afterwards),
        ]

    def kill_under_load(self) -> str:
        """Kill one server between streams and whole answers; only answers that had begun may break."""
        with _closed_early(ThreadPoolExecutor(_CONCURRENT)) as pool:
            futures = [pool.submit(self._request, number) for number in range(_REQUESTS)]
            for _ in range(_KILL_AFTER):
                require(self._ended.acquire(timeout=_REQUEST_SECONDS), "the load does not move")
            queue = self._kill_while_busy()
            killed_at = time.monotonic()
            _, late = wait(futures, timeout=_PHASE_SECONDS)
            require(not late, f"{len(late)} requests did not end within {_PHASE_SECONDS:.0f} s")
        outcomes = [future.result() for future in futures]
        counts = ", ".join(
            f"{sum(outcome.ending is ending for outcome in outcomes)} {ending}"
            for ending in Ending
            if any(outcome.ending is ending for outcome in outcomes)
        )
        allowed = [
            outcome
            for outcome in outcomes
            if outcome.ending is Ending.COMPLETE
            or (outcome.ending is Ending.BROKEN and (outcome.started_at or 0.0) <= killed_at + _SEEN_LATE_SECONDS)
        ]
        wrong = [outcome for outcome in outcomes if outcome not in allowed]
        require(not wrong, f"{counts}; not allowed: {wrong[:5]}")
        moved = self._gateway.metric("inference_gateway_failovers_total")
        require(moved > 0, f"{counts}; no request moved to the other server, so nothing was shown")
        return f"{counts}, {moved:.0f} moved to the other; when killed it ran {queue.running}, {queue.waiting} waited"

    def afterwards(self) -> str:
        """With the server gone, new requests succeed one by one, at the speed of the other."""
        seconds = []
        for number in range(_AFTERWARDS):
            started = time.monotonic()
            outcome = self._request(number)
            seconds.append(time.monotonic() - started)
            require(outcome.ending is Ending.COMPLETE, f"request {number}: {outcome}")
        states = self._gateway.endpoint_states(MODEL)
        metrics = states.get(self._victim.address, {}).get("metrics")
        require(metrics is None, f"the dead server still has metrics: {metrics}")
        return f"{_AFTERWARDS} requests, slowest {max(seconds):.2f} s"

    def _kill_while_busy(self) -> Reading:
        """Kill the victim at a moment when requests wait in it, and return what it said last."""
        deadline = time.monotonic() + _REQUEST_SECONDS
        while time.monotonic() < deadline:
            reading = Reading.of_page(self._victim.metrics_page())
            if reading.waiting and reading.running:
                self._victim.child.kill()
                return reading
        msg = f"nothing waited in {self._victim.address} for {_REQUEST_SECONDS:.0f} s, so killing it would show nothing"
        raise CheckFailedError(msg)

    def _request(self, number: int) -> Outcome:
        try:
            return self._streamed(number) if number % 2 else self._whole(number)
        finally:
            self._ended.release()

    def _whole(self, number: int) -> Outcome:
        try:
            answer = self._client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": f"question {number}"}],
                max_tokens=_TOKENS,
                extra_body={"ignore_eos": True},
            )
        except OpenAIError as error:
            return Outcome(Ending.REFUSED, streamed=False, started_at=None, error=_describe(error))
        whole = answer.usage is not None and answer.usage.completion_tokens == _TOKENS
        ending = Ending.COMPLETE if whole else Ending.CUT_SHORT
        return Outcome(ending, streamed=False, started_at=time.monotonic())

    def _streamed(self, number: int) -> Outcome:
        started_at = None
        finished = False
        try:
            stream = self._client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": f"question {number}"}],
                max_tokens=_TOKENS,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            started_at = time.monotonic()
            for event in stream:
                finished = finished or event.choices[0].finish_reason is not None
        except (OpenAIError, httpx.HTTPError) as error:
            ending = Ending.REFUSED if started_at is None else Ending.BROKEN
            return Outcome(ending, streamed=True, started_at=started_at, error=_describe(error))
        ending = Ending.COMPLETE if finished else Ending.CUT_SHORT
        return Outcome(ending, streamed=True, started_at=started_at)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


@contextmanager
def _closed_early(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """Leave without starting what still waits in *pool*."""
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
