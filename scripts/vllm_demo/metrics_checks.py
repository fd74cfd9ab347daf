"""What the gateway read from the servers' metrics pages, compared with the pages themselves, idle and under load."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from gateway import Gateway
from openai import OpenAI
from report import require, require_equal
from servers import KV_BLOCK_TOKENS, KV_BLOCKS, MAX_RUNNING, MODEL, ModelServer

_STREAMS_PER_SERVER: Final = MAX_RUNNING + 2
_STREAM_TOKENS: Final = 1500
_ROUNDS: Final = 10
_MISSED_ROUNDS: Final = 2
"""Rounds that may differ: figures jump where streams end, and a busy server may answer a scrape too late."""
_ROUND_SECONDS: Final = 0.2
_MAX_AGE_SECONDS: Final = 3.0
"""How long ago a page may have said what the gateway says now."""
_KV_TOLERANCE: Final = 0.005
_SETTLE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The load figures of one server."""

    waiting: int
    running: int
    kv: float

    @classmethod
    def of_page(cls, page: str) -> "Reading":
        """Read a vLLM metrics page of one engine; KeyError if a figure is missing."""
        values = {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith(
                ("vllm:num_requests_waiting{", "vllm:num_requests_running{", "vllm:kv_cache_usage_perc{")
            )
        }
        return cls(
            int(values["vllm:num_requests_waiting"]),
            int(values["vllm:num_requests_running"]),
            values["vllm:kv_cache_usage_perc"],
        )

    @classmethod
    def of_state(cls, endpoint: dict[str, Any]) -> "Reading | None":
        """Take the figures from one endpoint of the gateway's state; None if it has no reading."""
        metrics = endpoint["metrics"]
        if metrics is None:
            return None
        return cls(metrics["waiting_queue_size"], metrics["running_requests"], metrics["kv_cache_utilization"])

    def lies_among(self, others: Sequence["Reading"]) -> bool:
        """Whether one of *others* has the same counts, and the KV cache was as full as this between two of them."""
        fills = [other.kv for other in others]
        same_counts = any((self.waiting, self.running) == (other.waiting, other.running) for other in others)
        return same_counts and min(fills) - _KV_TOLERANCE <= self.kv <= max(fills) + _KV_TOLERANCE


class MetricsChecks:
    """Checks of the scraped figures; they need both servers and no other traffic."""

    def __init__(self, gateway: Gateway, servers: tuple[ModelServer, ...]) -> None:
        """Use the official client without retries of its own."""
        self._gateway = gateway
        self._servers = servers
        self._client = OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=120.0)

    def table(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the checks with their names, in the order they should run."""
        return [
            ("metrics of idle servers", self.idle),
            ("metrics under load equal the servers' pages", self.under_load),
            ("cancelled streams leave the servers", self.idle_again),
        ]

    def idle(self) -> str:
        """Every endpoint is recognised as vLLM with its KV geometry, and idle."""
        states = self._gateway.endpoint_states(MODEL)
        require_equal(sorted(states), sorted(server.address for server in self._servers), "endpoints")
        for address, state in states.items():
            require(state["metrics"], f"{address} has no metrics")
            require_equal(state["metrics"]["engine"], "vllm", f"engine of {address}")
            for name, expected in (("kv_block_size", KV_BLOCK_TOKENS), ("kv_blocks", KV_BLOCKS), ("model", MODEL)):
                # Not every page shows these; what is shown must be right.
                require_equal(state["metrics"].get(name, expected), expected, f"{name} of {address}")
        return self._wait_for_idle()

    def under_load(self) -> str:
        """With more streams than the servers run at once, each figure is one the page showed moments before."""
        seen: dict[str, deque[tuple[float, Reading]]] = {server.address: deque(maxlen=100) for server in self._servers}
        most_waiting = 0
        missed: list[str] = []
        with self._streams(_STREAMS_PER_SERVER * len(self._servers)):
            self._sample_until(lambda: any(history[-1][1].waiting for history in seen.values()), seen)
            warm_up_ends = time.monotonic() + _MAX_AGE_SECONDS
            self._sample_until(lambda: time.monotonic() > warm_up_ends, seen)
            for _ in range(_ROUNDS):
                states = self._gateway.endpoint_states(MODEL)
                self._sample(seen)
                readings = {address: Reading.of_state(states[address]) for address in seen}
                differing = [_differing(address, readings[address], seen[address]) for address in seen]
                missed += [text for text in differing if text][:1]
                known = [reading for reading in readings.values() if reading]
                most_waiting = max([most_waiting, *(reading.waiting for reading in known)])
                require(all(reading.running for reading in known), f"a server has no work: {readings}")
                time.sleep(_ROUND_SECONDS)
        require(len(missed) <= _MISSED_ROUNDS, f"{len(missed)} of {_ROUNDS} rounds differ, such as {missed[-1:]}")
        require(most_waiting > 0, "no request was ever seen waiting")
        last = ", ".join(
            f"{h[-1][1].running} + {h[-1][1].waiting} waiting, KV {h[-1][1].kv:.2f}" for h in seen.values()
        )
        return f"{_ROUNDS - len(missed)} of {_ROUNDS} rounds agree; at the end {last}"

    def idle_again(self) -> str:
        """Streams that the clients left are ended at the servers, and the gateway sees that."""
        return self._wait_for_idle()

    def _wait_for_idle(self) -> str:
        """Wait until the pages and the gateway agree that nothing runs or waits."""
        started = time.monotonic()
        idle = [Reading(0, 0, 0.0)] * len(self._servers)
        while True:
            pages = [Reading.of_page(server.metrics_page()) for server in self._servers]
            states = self._gateway.endpoint_states(MODEL)
            readings = [Reading.of_state(states[server.address]) for server in self._servers]
            in_flight = [states[server.address]["in_flight"] for server in self._servers]
            elapsed = time.monotonic() - started
            if pages == idle and readings == idle and not any(in_flight):
                return f"idle after {elapsed:.1f} s"
            require(
                elapsed < _SETTLE_SECONDS,
                f"not idle after {elapsed:.0f} s: pages {pages}, gateway {readings}, in flight {in_flight}",
            )
            time.sleep(_ROUND_SECONDS)

    def _sample(self, seen: dict[str, deque[tuple[float, Reading]]]) -> None:
        for server in self._servers:
            seen[server.address].append((time.monotonic(), Reading.of_page(server.metrics_page())))

    def _sample_until(self, done: Callable[[], bool], seen: dict[str, deque[tuple[float, Reading]]]) -> None:
        deadline = time.monotonic() + _SETTLE_SECONDS
        self._sample(seen)
        while not done():
            require(time.monotonic() < deadline, f"no queue after {_SETTLE_SECONDS:.0f} s")
            time.sleep(_ROUND_SECONDS)
            self._sample(seen)

    @contextmanager
    def _streams(self, count: int) -> Iterator[None]:
        """Keep *count* long streams open, and cancel them on leaving."""
        leaving = threading.Event()
        with ThreadPoolExecutor(count) as pool:
            futures = [pool.submit(self._stream, number, leaving) for number in range(count)]
            try:
                yield
            finally:
                leaving.set()
        _raise_first([error for future in futures if (error := future.exception())])

    def _stream(self, number: int, leaving: threading.Event) -> None:
        """Read one stream after the other until *leaving* is set, and abandon the last one."""
        while not leaving.is_set():
            with self._client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": f"stream {number}"}],
                max_tokens=_STREAM_TOKENS,
                stream=True,
                extra_body={"ignore_eos": True},
            ) as stream:
                for _ in stream:
                    if leaving.is_set():
                        break


def _differing(address: str, reading: Reading | None, history: Iterable[tuple[float, Reading]]) -> str:
    """Say how *reading* differs from what the page showed of late; empty if it does not."""
    recent = [page for at, page in history if time.monotonic() - at <= _MAX_AGE_SECONDS]
    if reading is not None and reading.lies_among(recent):
        return ""
    return f"{address}: the gateway says {reading}, the page said {recent}"


def _raise_first(errors: Sequence[BaseException]) -> None:
    if errors:
        raise errors[0]
