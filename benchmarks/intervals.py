"""Medians of passes with a confidence interval that assumes nothing about how passes scatter.

The interval reaches from the k-th smallest to the k-th largest figure. It misses the true median only if fewer than k
of the n passes fell on one side of it, which has the probability of as many heads in n throws of a coin, whatever the
distribution. The largest k with at least `WANTED` is taken; five passes give their whole range and 93.75 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, isnan, nan
from typing import Final

from benchmarks.quantiles import quantile

WANTED: Final = 0.93
"""Least probability that an interval holds the median, where there are passes enough."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and where the true one is.

    Attributes:
        median: Of the passes; NaN of none.
        low: Lower end of the interval.
        high: Upper end.
        coverage: Probability that the interval holds the true median; 0 for a single pass.
        passes: How many figures there were.
    """

    median: float
    low: float
    high: float
    coverage: float
    passes: int

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Estimate":
        """Estimate from one figure per pass; those that are not numbers are left out."""
        ordered = sorted(figure for figure in figures if not isnan(figure))
        n = len(ordered)
        if not n:
            return cls(nan, nan, nan, 0.0, 0)
        k = _order(n)
        return cls(quantile(ordered, 0.5), ordered[k - 1], ordered[n - k], coverage(n, k), n)

    def text(self, digits: int = 2, scale: float = 1.0) -> str:
        """Return ``median (low-high)``, each times *scale*; the median alone of a single pass."""
        if self.passes < 2:
            return f"{self.median * scale:.{digits}f}"
        ends = f"{self.low * scale:.{digits}f} to {self.high * scale:.{digits}f}"
        return f"{self.median * scale:.{digits}f} ({ends})"


def coverage(n: int, k: int) -> float:
    """Return how surely the k-th smallest and the k-th largest of *n* figures enclose the median."""
    return max(0.0, 1.0 - 2.0 * sum(comb(n, i) for i in range(k)) / 2.0**n)


def _order(n: int) -> int:
    """Return the largest k that still covers what is wanted, 1 where nothing does."""
    return max((k for k in range(1, (n + 1) // 2 + 1) if coverage(n, k) >= WANTED), default=1)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return *above* by *below*, pass by pass; not a number where the divisor is not positive."""
    return [a / b if b > 0 else nan for a, b in zip(above, below, strict=True)]
