"""Bars: what a figure must not exceed, and whether it did."""

from dataclasses import dataclass

from benchmarks.intervals import Estimate


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure against its limit.

    Attributes:
        name: What is compared.
        limit: What it must not exceed.
        figure: What was measured, with its interval.
        basis: What the figure is computed from.
        unit: Of figure and limit; empty: a ratio.
        digits: To print.
    """

    name: str
    limit: float
    figure: Estimate
    basis: str
    unit: str = ""
    digits: int = 2

    @property
    def verdict(self) -> str:
        """``PASS`` or ``FAIL`` by the median; with a question mark where the interval holds the limit too."""
        word = "PASS" if self.figure.median <= self.limit else "FAIL"
        sure = self.figure.high <= self.limit or self.figure.low > self.limit
        return word if sure else f"{word}?"

    def row(self) -> tuple[str, ...]:
        """Return verdict, name, figure, limit and basis."""
        unit = f" {self.unit}" if self.unit else ""
        return (
            self.verdict,
            self.name,
            f"{self.figure.text(self.digits)}{unit}",
            f"≤ {self.limit:.4g}{unit}",
            self.basis,
        )


BAR_HEADS = ("", "bar", "measured", "limit", "from")
