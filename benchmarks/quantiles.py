"""Quantiles and summaries of samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which *share* of the *ordered* samples lie, linear between neighbours; NaN of none."""
    if not ordered:
        return nan
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


@dataclass(frozen=True, slots=True)
class Summary:
    """Where samples lie; NaN throughout when there are none."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Summary":
        """Summarise *samples*, in any order."""
        ordered = sorted(samples)
        mean = fmean(ordered) if ordered else nan
        return cls(len(ordered), mean, quantile(ordered, 0.5), quantile(ordered, 0.9), quantile(ordered, 0.99))


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure measured in several passes."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        """Summarise the passes' figures."""
        ordered = sorted(samples)
        return cls(quantile(ordered, 0.5), quantile(ordered, 0.0), quantile(ordered, 1.0))

    def text(self, digits: int = 2) -> str:
        """Return ``median (least-most)``."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}-{self.most:.{digits}f})"
