"""What the gateway read from the servers' metrics pages, compared with the pages themselves, idle and under load."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from gateway import Gateway
from loopback import opened_stream
from report import require, require_equal
from servers import KV_BLOCK_TOKENS, KV_BLOCKS, MAX_RUNNING, MODEL, ModelServer

_STREAMS_PER_SERVER: Final = MAX_RUNNING + 2
_STREAM_TOKENS: Final = 1500
_AGREEING_ROUNDS: Final = 10
_DIFFERING_ROUNDS: Final = 4
"""Rounds that may differ: figures jump where streams end, between two looks at a page."""
_LOAD_SECONDS: Final = 60.0
_ROUND_SECONDS: Final = 0.2
_LOOKS: Final = 8
"""How many looks at a page back the gateway's figures may be from."""
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
        """Take the figures from one endpoint of the gateway's state; None if it has no fresh reading."""
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
        """Compare *gateway* with the pages of *servers*."""
        self._gateway = gateway
        self._servers = servers

    def table(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the checks with their names, in the order they should run."""
        return [
            ("metrics of idle servers", self.idle),
            ("metrics under load equal the servers' pages", self.under_load),
            ("cancelled streams leave the servers", self.idle_again),
        ]

    def idle(self) -> str:
        """Every endpoint is recognised as vLLM with its KV geometry, and idle."""
        detail = self._wait_for_idle()
        states = self._gateway.endpoint_states(MODEL)
        require_equal(sorted(states), sorted(server.address for server in self._servers), "endpoints")
        for address, state in states.items():
            metrics = state["metrics"] or {}
            require_equal(metrics.get("engine"), "vllm", f"engine of {address}")
            for name, expected in (("kv_block_size", KV_BLOCK_TOKENS), ("kv_blocks", KV_BLOCKS), ("model", MODEL)):
                # Not every gateway shows these; what is shown must be right.
                require_equal(metrics.get(name, expected), expected, f"{name} of {address}")
        return detail

    def under_load(self) -> str:
        """With more streams than the servers run at once, the figures are those the pages showed moments before.

        A round in which the gateway knows nothing fresh of a server, because that was too busy to answer, does not
        count.
        """
        looks = {server.address: deque[Reading](maxlen=_LOOKS) for server in self._servers}
        agreeing, unknown, most_waiting = 0, 0, 0
        differing: list[str] = []
        with self._streams(_STREAMS_PER_SERVER * len(self._servers)):
            self._look_until_queued(looks)
            deadline = time.monotonic() + _LOAD_SECONDS
            while agreeing < _AGREEING_ROUNDS and time.monotonic() < deadline:
                states = self._gateway.endpoint_states(MODEL)
                self._look(looks)
                readings = {address: Reading.of_state(states[address]) for address in looks}
                wrong = [address for address, reading in readings.items() if not _agrees(reading, looks[address])]
                if None in readings.values():
                    unknown += 1
                elif wrong:
                    differing.append(f"gateway {readings[wrong[0]]}, page {list(looks[wrong[0]])}")
                else:
                    agreeing += 1
                    most_waiting = max(most_waiting, *(reading.waiting for reading in readings.values() if reading))
                time.sleep(_ROUND_SECONDS)
        counts = f"{agreeing} rounds agree, {len(differing)} differ, {unknown} unknown"
        require(len(differing) <= _DIFFERING_ROUNDS, f"{counts}; such as {differing[-1:]}")
        require(agreeing >= _AGREEING_ROUNDS, f"{counts} within {_LOAD_SECONDS:.0f} s {differing[-1:]}")
        require(most_waiting > 0, f"{counts}; no request was ever seen waiting")
        last = ", ".join(
            f"{look[-1].running} + {look[-1].waiting} waiting, KV {look[-1].kv:.2f}" for look in looks.values()
        )
        return f"{counts}; at the end {last}"

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

    def _look(self, looks: dict[str, deque[Reading]]) -> None:
        for server in self._servers:
            looks[server.address].append(Reading.of_page(server.metrics_page()))

    def _look_until_queued(self, looks: dict[str, deque[Reading]]) -> None:
        """Look at the pages until all servers run something, one has a queue, and there are enough looks."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            self._look(looks)
            last = [history[-1] for history in looks.values()]
            full = all(len(history) == _LOOKS for history in looks.values())
            if full and all(reading.running for reading in last) and any(reading.waiting for reading in last):
                return
            require(time.monotonic() < deadline, f"no queue after {_SETTLE_SECONDS:.0f} s: {last}")
            time.sleep(_ROUND_SECONDS)

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
        for future in futures:
            future.result()

    def _stream(self, number: int, leaving: threading.Event) -> None:
        """Read one stream after the other until *leaving* is set, and abandon the last one."""
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"stream {number}"}],
            "max_tokens": _STREAM_TOKENS,
            "stream": True,
            "ignore_eos": True,
        }
        while not leaving.is_set():
            with opened_stream(self._gateway.port, "/v1/chat/completions", body) as parts:
                for _ in parts:
                    if leaving.is_set():
                        break


def _agrees(reading: Reading | None, looks: Sequence[Reading]) -> bool:
    return reading is not None and reading.running > 0 and reading.lies_among(looks)
