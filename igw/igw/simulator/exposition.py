"""Writing a page in the Prometheus text format."""

from collections.abc import Mapping, Sequence

from igw.simulator.statistics import Histogram

Sample = tuple[Mapping[str, str], float]


class ExpositionPage:
    """Lines of a metrics page in the making.

    Attributes:
        labels: On every sample, before its own.
        created_seconds: Unix time for ``_created`` gauges as the Python client adds them; None: none are written.
        integers: Write whole numbers without a decimal point.
        blank_lines: Put an empty line after each family.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        *,
        created_seconds: float | None = None,
        integers: bool = False,
        blank_lines: bool = False,
    ) -> None:
        self.labels = dict(labels)
        self.created_seconds = created_seconds
        self.integers = integers
        self.blank_lines = blank_lines
        self._lines: list[str] = []

    def text(self) -> str:
        """Return the page."""
        return "\n".join((*self._lines, ""))

    def gauge(self, name: str, help_text: str, value: float) -> None:
        """Add a gauge with the labels of the page."""
        self.family(name, help_text, "gauge", [({}, value)])

    def counter(self, name: str, help_text: str, value: float) -> None:
        """Add a counter with the labels of the page; *name* as written, with ``_total`` where the server writes it."""
        self.family(name, help_text, "counter", [({}, value)])

    def family(self, name: str, help_text: str, kind: str, samples: Sequence[Sample]) -> None:
        """Add a family of several samples with labels of their own."""
        self._head(name, help_text, kind)
        self._lines += [f"{name}{_label_set({**self.labels, **own})} {self._number(value)}" for own, value in samples]
        if kind == "counter":
            self._created(name.removesuffix("_total"), help_text, [own for own, _value in samples])
        self._end()

    def bare_family(self, name: str, help_text: str, samples: Sequence[Sample]) -> None:
        """Add gauges that carry none of the labels of the page."""
        self._head(name, help_text, "gauge")
        self._lines += [f"{name}{_label_set(own)} {self._number(value)}" for own, value in samples]
        self._end()

    def histogram(self, name: str, help_text: str, histogram: Histogram) -> None:
        """Add a histogram."""
        self._head(name, help_text, "histogram")
        cumulative = 0
        for bound, number in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
            cumulative += number
            le = "+Inf" if bound == float("inf") else self._number(bound)
            self._lines.append(f"{name}_bucket{_label_set({**self.labels, 'le': le})} {self._number(cumulative)}")
        labels = _label_set(self.labels)
        self._lines.append(f"{name}_sum{labels} {self._number(histogram.total)}")
        self._lines.append(f"{name}_count{labels} {self._number(cumulative)}")
        self._created(name, help_text, [{}])
        self._end()

    def _head(self, name: str, help_text: str, kind: str) -> None:
        self._lines.append(f"# HELP {name} {help_text}")
        self._lines.append(f"# TYPE {name} {kind}")

    def _end(self) -> None:
        if self.blank_lines:
            self._lines.append("")

    def _created(self, base: str, help_text: str, own_labels: Sequence[Mapping[str, str]]) -> None:
        if self.created_seconds is None:
            return
        self._head(f"{base}_created", help_text, "gauge")
        self._lines += [
            f"{base}_created{_label_set({**self.labels, **own})} {self.created_seconds!r}" for own in own_labels
        ]

    def _number(self, value: float) -> str:
        return str(int(value)) if self.integers and value == int(value) else repr(float(value))


def _label_set(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
