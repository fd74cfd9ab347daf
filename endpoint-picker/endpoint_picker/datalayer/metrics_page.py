"""Read a model server's metrics page: raw bytes in, the few facts scheduling needs out.

Only lines of needed metrics are looked at. What is absent, malformed, negative, NaN or infinite is None (unknown),
never zero; no input makes the reader raise.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from endpoint_picker.datalayer.engines import ENGINES, Difference, Engine, LoraSeries, Ratio, Series, Source
from endpoint_picker.domain.endpoint import EndpointMetrics

MAX_SERIES: Final = 8192
"""Samples of one metric that are read; with more, the metric is unknown: its sum would be a part only."""
MAX_RANKS: Final = 256
"""Samples of one metric that may be parts of one fact; with more, the fact is unknown."""
MAX_LABEL_BYTES: Final = 64 * 1024
"""How far the labels of one sample are read."""
MAX_NAME_BYTES: Final = 256
"""Longest model or adapter name that is taken over."""
MAX_ADAPTERS: Final = 1024
"""Adapter names taken from one list."""

_UTILIZATION_SLACK: Final = 0.01  # rounding of a full cache; anything above is a percentage or nonsense
_LARGEST_COUNT: Final = 2**53  # above, a float no longer counts one by one

# Possessive throughout: no input costs more than one pass. After the value an optional timestamp and exemplar.
_SAMPLE: Final = re.compile(
    rb"[ \t]*+(?:\{((?:[^\"}]++|\"(?:[^\"\\]++|\\.)*+\")*+)\}[ \t]*+)?+"
    rb"([^ \t\r{}\"]++)"
    rb"(?:[ \t]++[-+0-9.eE]++)?+[ \t]*+(?:#.*+)?\r?+"
)
# A name is tried where it begins only: a long one without a value costs one pass, not one for each of its bytes.
_LABEL: Final = re.compile(
    rb"(?<![A-Za-z0-9_])([A-Za-z_][A-Za-z0-9_]*+)[ \t]*+=[ \t]*+\"((?:[^\"\\]++|\\.)*+)\"[ \t]*+(?:,|$)"
)
_DECIMAL: Final = re.compile(rb"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]{1,4}+)?+")
_NOT_FINITE: Final = frozenset({b"nan", b"inf", b"infinity"})
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)

_PREFIXES: Final = {engine.prefix.encode(): engine for engine in ENGINES.values()}
_ANY_PREFIX: Final = re.compile(rb"\n(" + b"|".join(map(re.escape, _PREFIXES)) + rb")")


def _line_pattern(engine: Engine) -> re.Pattern[bytes]:
    # The common prefix stands outside the alternatives: the search for it runs at the speed of memory.
    prefix = engine.prefix.encode()
    rests = (re.escape(name.encode().removeprefix(prefix)) for name in engine.metric_names)
    return re.compile(rb"\n" + re.escape(prefix) + rb"(" + b"|".join(rests) + rb")(?=[{ \t])([^\n]*+)")


_LINES: Final = {name: _line_pattern(engine) for name, engine in ENGINES.items()}


@dataclass(frozen=True)
class _Sample:
    """One line: the text between the braces and its value, None where that is NaN or infinite."""

    label_text: bytes
    value: float | None

    @cached_property
    def _labels(self) -> dict[bytes, bytes]:
        return dict(_LABEL.findall(self.label_text[:MAX_LABEL_BYTES]))

    @property
    def label_items(self) -> Iterable[tuple[bytes, bytes]]:
        """Names and escaped values."""
        return self._labels.items()

    def label(self, name: str) -> str:
        """Return a label's value, empty if there is none."""
        return _unescape(self._labels.get(name.encode(), b"")).decode("utf-8", "replace")


def read_page(page: bytes, *, engine: str = "", read_at: float, in_flight_when_read: int) -> EndpointMetrics:
    """Read a metrics page.

    Args:
        page: The body as it arrived.
        engine: What the endpoint's labels say it is; empty: found by the first metric-name prefix on the page.
        read_at: Clock reading when the page had arrived.
        in_flight_when_read: Our own in-flight requests when the page was asked for.

    Returns:
        The facts. `engine` is empty where the page is not that of the engine named, or of none we know: JSON, another
        exporter's page. Where it is set, `tells_load` says whether the page had what scheduling needs.
    """
    lines = b"\n" + page
    found = _recognise(lines, engine)
    if found is None:
        return EndpointMetrics(read_at=read_at, in_flight_when_read=in_flight_when_read)
    samples = _samples(lines, found)
    max_loras, running_loras, waiting_loras = _loras(samples, found.loras)
    return EndpointMetrics(
        engine=found.name,
        waiting_queue_size=_count(_first(found.waiting, samples, found, in_sum=True)),
        running_requests=_count(_first(found.running, samples, found, in_sum=True)),
        kv_cache_utilization=_fraction(_first(found.kv_utilization, samples, found, in_sum=False)),
        kv_block_size=_count(_first(found.block_size, samples, found, in_sum=False)) or None,
        kv_blocks=_count(_first(found.blocks, samples, found, in_sum=False)) or None,
        max_loras=max_loras,
        running_loras=running_loras,
        waiting_loras=waiting_loras,
        model=_model(samples, found),
        preemptions=_count(_first(found.preemptions, samples, found, in_sum=True)),
        read_at=read_at,
        in_flight_when_read=in_flight_when_read,
    )


def tells_load(metrics: EndpointMetrics) -> bool:
    """Whether a page said anything of its load; False with an engine set: its metrics were renamed or switched off."""
    return not (
        metrics.waiting_queue_size is None and metrics.running_requests is None and metrics.kv_cache_utilization is None
    )


def _recognise(lines: bytes, engine: str) -> Engine | None:
    named = ENGINES.get(engine)
    if named is not None:
        return named if b"\n" + named.prefix.encode() in lines else None
    match = _ANY_PREFIX.search(lines)
    return _PREFIXES[match[1]] if match else None


def _samples(lines: bytes, engine: Engine) -> dict[str, list[_Sample]]:
    """Return the well-formed samples of each needed metric, in the page's order."""
    samples: dict[str, list[_Sample]] = {}
    flooded: set[str] = set()
    for match in _LINES[engine.name].finditer(lines):
        name = engine.prefix + match[1].decode()
        if name in flooded:
            continue
        sample = _sample(match[2])
        if sample is None:
            continue
        series = samples.setdefault(name, [])
        series.append(sample)
        if len(series) > MAX_SERIES:
            flooded.add(name)
            del samples[name]
    return samples


def _sample(text: bytes) -> _Sample | None:
    match = _SAMPLE.fullmatch(text)
    if match is None:
        return None
    number = match[2]
    if _DECIMAL.fullmatch(number):
        value = float(number)
        return _Sample(match[1] or b"", value if abs(value) <= _LARGEST_COUNT else None)
    if number.lower().lstrip(b"+-") in _NOT_FINITE:
        return _Sample(match[1] or b"", None)
    return None


def _first(
    sources: Iterable[Source], samples: dict[str, list[_Sample]], engine: Engine, *, in_sum: bool
) -> float | None:
    """Return the first source that is known, over ranks: in sum or the greatest."""
    for source in sources:
        match source:
            case Series():
                value = _over_ranks(source, samples, engine, in_sum=in_sum)
            case Difference(minuend, subtrahend):
                more = _over_ranks(minuend, samples, engine, in_sum=in_sum)
                less = _over_ranks(subtrahend, samples, engine, in_sum=in_sum)
                # The two are not read at one instant: a small negative rest is none.
                value = None if more is None or less is None else max(0.0, more - less)
            case Ratio(numerator, denominator):
                part = _over_ranks(numerator, samples, engine, in_sum=in_sum)
                whole = _over_ranks(denominator, samples, engine, in_sum=in_sum)
                value = None if part is None or not whole else part / whole
        if value is not None:
            return value
    return None


def _over_ranks(series: Series, samples: dict[str, list[_Sample]], engine: Engine, *, in_sum: bool) -> float | None:
    found = samples.get(series.name)
    if not found or len(found) > MAX_RANKS:
        return None
    if series.where is not None:
        label, wanted = series.where
        found = [sample for sample in found if sample.label(label) == wanted]
    if in_sum:
        # One unknown part makes the sum unknown: the rest alone would look like a lighter load.
        values = [_value(sample, series) for sample in _without_copies(found, engine)]
        known = [value for value in values if value is not None]
        return sum(known) if known and len(known) == len(values) else None
    values = [_value(sample, series) for sample in found]
    return max((value for value in values if value is not None), default=None)


def _value(sample: _Sample, series: Series) -> float | None:
    """Return a sample's number, None if it is unknown or negative: some engines say -1 for *no data yet*."""
    if not series.label:
        value = sample.value
    else:
        text = sample.label(series.label).encode()
        value = float(text) if _DECIMAL.fullmatch(text) else None
    return value if value is not None and 0 <= value <= _LARGEST_COUNT else None


def _without_copies(samples: list[_Sample], engine: Engine) -> list[_Sample]:
    """Return one sample, the greatest, per set of labels that are not copy labels."""
    if len(samples) < 2 or not engine.copy_labels:
        return samples
    copy_labels = {label.encode() for label in engine.copy_labels}
    greatest: dict[frozenset[tuple[bytes, bytes]], _Sample] = {}
    for sample in samples:
        key = frozenset(item for item in sample.label_items if item[0] not in copy_labels)
        rival = greatest.get(key)
        if rival is None or (sample.value or 0.0) > (rival.value or 0.0):
            greatest[key] = sample
    return list(greatest.values())


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)


def _fraction(value: float | None) -> float | None:
    return None if value is None or value > 1 + _UTILIZATION_SLACK else min(1.0, value)


def _loras(
    samples: dict[str, list[_Sample]], series: LoraSeries | None
) -> tuple[int | None, frozenset[str], frozenset[str]]:
    """Return adapter slots, running and waiting adapters of the newest state; old states stay on the page for ever."""
    states = [sample for sample in samples.get(series.name, ()) if sample.value is not None] if series else []
    if series is None or not states:
        return None, frozenset(), frozenset()
    newest = max(states, key=lambda sample: sample.value or 0.0)
    slots = _value(newest, Series(series.name, label=series.max_label))
    return (
        _count(slots) or None,
        _adapters(newest.label(series.running_label)),
        _adapters(newest.label(series.waiting_label)),
    )


def _adapters(text: str) -> frozenset[str]:
    names = (name.strip() for name in text.split(",", MAX_ADAPTERS)[:MAX_ADAPTERS])
    return frozenset(name for name in names if 0 < len(name) <= MAX_NAME_BYTES)


def _model(samples: dict[str, list[_Sample]], engine: Engine) -> str:
    if not engine.model_label:
        return ""
    for series in samples.values():
        model = series[0].label(engine.model_label)
        if model:
            return model if len(model) <= MAX_NAME_BYTES else ""
    return ""


def _unescape(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: b"\n" if match[1] == b"n" else match[1], text) if b"\\" in text else text
