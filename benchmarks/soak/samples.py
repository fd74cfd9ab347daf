"""Memory and open files of each process over time, and whether they stay within bounds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.machine import open_files, resident_bytes

_MIB: Final = 1024 * 1024
_GROWTH_MIB: Final = 30.0
_GROWTH_FILES: Final = 64
_JUDGED_SECONDS: Final = 120.0
MOST_MIB: Final[Mapping[str, float]] = {"igw up": 200.0, "picker": 500.0, "picker in reserve": 150.0, "envoy": 1000.0}
"""More memory than this is a fault, however slowly it came."""


@dataclass(slots=True)
class Life:
    """One process from its first sample to its last.

    Attributes:
        name: What it is.
        pid: Its id.
        moments: When samples were taken, seconds since the start of the soak.
        memory_mib: Resident memory.
        files: Open file descriptors.
    """

    name: str
    pid: int
    moments: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return self.moments[-1] - self.moments[0]

    def growth(self, values: Sequence[float]) -> float:
        """Return by how much the last fifth lies above the second: the first is for caches to fill."""
        fifth = max(1, len(values) // 5)
        return median(values[-fifth:]) - median(values[fifth : 2 * fifth] or values[:1])

    def problems(self) -> list[str]:
        """Return what is not as it should be."""
        found = []
        most = MOST_MIB.get(self.name)
        if most is not None and max(self.memory_mib) > most:
            found.append(f"{self.name} had {max(self.memory_mib):.0f} MiB, more than {most:.0f}")
        if most is not None and self.seconds >= _JUDGED_SECONDS:
            if (grown := self.growth(self.memory_mib)) > max(_GROWTH_MIB, 0.25 * median(self.memory_mib)):
                found.append(f"{self.name} grew by {grown:.0f} MiB in {self.seconds:.0f} s")
            if (more := self.growth(self.files)) > _GROWTH_FILES:
                found.append(f"{self.name} has {more:.0f} more open files after {self.seconds:.0f} s")
        return found


class Samples:
    """Lives of all processes; `take` is called now and then."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lives: dict[tuple[str, int], Life] = {}

    def take(self, pids: Mapping[str, int]) -> None:
        """Look at every process of *pids*; one that is gone is left out."""
        for name, pid in pids.items():
            try:
                memory, files = resident_bytes(pid) / _MIB, open_files(pid)
            except (OSError, IndexError, ValueError):
                continue
            life = self._lives.setdefault((name, pid), Life(name, pid))
            life.moments.append(time.monotonic() - self._began)
            life.memory_mib.append(memory)
            life.files.append(files)

    @property
    def lives(self) -> tuple[Life, ...]:
        """Of all processes that were seen."""
        return tuple(self._lives.values())


def slope(moments: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the straight line that fits best, per hour; 0 for fewer than two moments."""
    if len(moments) < 2:
        return 0.0
    mean_moment, mean_value = sum(moments) / len(moments), sum(values) / len(values)
    spread = sum((moment - mean_moment) ** 2 for moment in moments)
    if not spread:
        return 0.0
    together = sum((m - mean_moment) * (v - mean_value) for m, v in zip(moments, values, strict=True))
    return together / spread * 3600.0
