"""Which metrics there are: what the documentation lists, and what dashboards and rules may ask for."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """One family of metrics.

    Attributes:
        name: As it is asked for; without the suffixes of a histogram's series.
        type: ``counter``, ``gauge`` or ``histogram``.
        labels: Names of its labels.
        documentation: Its help text.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    documentation: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the series that it has."""
        if self.type != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))


def families_of(registry: CollectorRegistry) -> Iterator[MetricFamily]:
    """Yield every family that *registry* has, with samples or without."""
    for collector in list(registry._collector_to_names):  # noqa: SLF001 - the library lists collectors nowhere else
        found = collector.describe() if hasattr(collector, "describe") else collector.collect()
        for family in found:
            labels = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield MetricFamily(name, family.type, tuple(labels), family.documentation)
