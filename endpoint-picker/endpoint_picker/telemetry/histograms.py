"""Histograms that cost little to write: the library's own take locks and search bucket by bucket at each value.

A request is measured about ten times. Everything is written and rendered by the thread of the event loop, so nothing
is locked; what is exposed is the library's own metric family.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import INF, floatToGoString


class HistogramSeries:
    """One series; written by whoever looked it up, in one thread."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count *value*; *exemplar* (labels, at most 128 characters in all) is kept as the latest of its bucket."""
        place = bisect_left(self._bounds, value)
        self._counts[place] += 1
        self._sum += value
        if exemplar:
            self._exemplars[place] = Exemplar(dict(exemplar), value, time.time())

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str], bounds: Sequence[str]) -> None:
        """Add the samples of this series to *family*; *bounds* are the upper bounds as text, infinity included."""
        total = 0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for place, (bound, count) in enumerate(zip(bounds, self._counts, strict=True)):
            total += count
            exemplar = self._exemplars.get(place)
            buckets.append((bound, float(total)) if exemplar is None else (bound, float(total), exemplar))
        family.add_metric(labels, buckets, self._sum)


class Histogram(Collector):
    """A histogram with labels, with the surface of the library's own.

    Args:
        name: Name of the family.
        documentation: Its help text.
        labels: Names of the labels; none: `observe` is called on the family itself.
        buckets: Upper bounds, ascending, infinity left out.
        registry: Where it is registered.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(float(bound) for bound in buckets)
        self._texts = tuple(str(floatToGoString(bound)) for bound in (*self._bounds, INF))  # type: ignore[no-untyped-call]
        self._series: dict[tuple[str, ...], HistogramSeries] = {}
        if not self._labels:
            self.observe = self.labels().observe
        registry.register(self)

    def labels(self, *values: str) -> HistogramSeries:
        """Return the series of the label *values*, made when it is new; ValueError when their number is wrong."""
        if len(values) != len(self._labels):
            msg = f"{self._name} has the labels {self._labels}, got {values}"
            raise ValueError(msg)
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = HistogramSeries(self._bounds)
        return series

    def remove(self, *values: str) -> None:
        """Forget the series of the label *values*."""
        self._series.pop(values, None)

    def describe(self) -> Iterator[Metric]:
        """Yield the family without series, by which the registry finds two of one name."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """Yield the family with all series."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, series in self._series.items():
            series.add_to(family, values, self._texts)
        yield family
