"""The parts of the benchmark in the order in which they run."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from benchmarks.gateway import cells, flat, memory, mixed, scrape, steady, throughput
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.plan import Plan, Progress
from benchmarks.gateway.tables import Table


class PartFigures(Protocol):
    """What a part measured; a dataclass."""

    @property
    def errors(self) -> Sequence[str]:
        """What failed."""


class Part(Protocol):
    """A module per part; its `Figures` are what `measure` returns and the others take."""

    Figures: type[Any]

    def expected_seconds(self, plan: Plan) -> float:
        """Return about how long `measure` takes."""

    async def measure(self, plan: Plan, progress: Progress) -> PartFigures:
        """Start what is measured, measure and end it."""

    def bars(self, figures: Any) -> list[Bar]:  # noqa: ANN401 - each part takes its own
        """Return what the figures are held against."""

    def tables(self, figures: Any) -> list[Table]:  # noqa: ANN401
        """Return the figures as tables."""


PARTS: Final[dict[str, Part]] = {
    "cells": cells,
    "steady": steady,
    "flat": flat,
    "scrape": scrape,
    "throughput": throughput,
    "mixed": mixed,
    "memory": memory,
}
USUAL: Final = tuple(name for name in PARTS if name != "memory")
"""All but the one that takes long."""
