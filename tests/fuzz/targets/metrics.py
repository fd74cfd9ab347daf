"""Metrics pages: nothing raises, and a valid page gives what the Prometheus client library reads from it."""

import math
import random
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from endpoint_picker.datalayer.engines import ENGINES, Difference, Engine, Ratio, Series, Source
from endpoint_picker.datalayer.metrics_page import MAX_NAME_BYTES, MAX_RANKS, read_page, tells_load
from endpoint_picker.domain.endpoint import EndpointMetrics
from fuzz.target import Draws, Target, bounded, plain

PAGES = Path(__file__).parents[2] / "data" / "metrics"
NAMES = ("", *ENGINES, "unknown")

_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = rb'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n\r]|\\[\\"n])*"'
_VALUE = rb"(?:[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?|NaN|[+-]?Inf)"
_VALID_LINE = re.compile(
    rb"(?:" + _NAME + rb"(?:\{(?:" + _LABEL + rb"(?:," + _LABEL + rb")*,?)?\})? " + _VALUE + rb"(?: -?[0-9]{1,13})?|)"
)
_LARGEST = 2.0**53
_Labels = dict[str, str]
_Samples = dict[str, list[tuple[_Labels, float]]]


def check(data: bytes) -> None:
    """Read one page; the first byte says what the endpoint claims to be."""
    draws = Draws(data)
    name = draws.pick(NAMES)
    page = draws.repeated_rest(most=1 << 17)
    with bounded(len(page), seconds_per_megabyte=4.0):
        metrics = read_page(page, engine=name, read_at=1.0, in_flight_when_read=2)
    _check_sense(metrics, name)
    # Line ends and a missing last one make no difference.
    if b"\r" not in page:
        assert read_page(page.rstrip(b"\n"), engine=name, read_at=1.0, in_flight_when_read=2) == metrics
    samples = _valid_samples(page)
    if samples is not None and metrics.engine:
        _check_values(metrics, samples, ENGINES[metrics.engine])


def _check_sense(metrics: EndpointMetrics, name: str) -> None:
    assert metrics.engine in (ENGINES if name not in ENGINES else {"", name}) or metrics.engine == ""
    counts = (metrics.waiting_queue_size, metrics.running_requests, metrics.preemptions, metrics.max_loras)
    for count in (*counts, metrics.kv_blocks, metrics.kv_block_size):
        assert count is None or (type(count) is int and 0 <= count <= MAX_RANKS * _LARGEST)
    assert metrics.kv_cache_utilization is None or 0 <= metrics.kv_cache_utilization <= 1
    assert len(metrics.model) <= MAX_NAME_BYTES
    for adapters in (metrics.running_loras, metrics.waiting_loras):
        assert all(0 < len(adapter) <= MAX_NAME_BYTES for adapter in adapters)
    assert tells_load(metrics) in (True, False)


def _valid_samples(page: bytes) -> _Samples | None:
    """Return the samples of a page that keeps to the format to the letter, as the client library reads them."""
    lines = [line for line in page.split(b"\n") if not line.startswith(b"#")]
    if not all(_VALID_LINE.fullmatch(line) for line in lines):
        return None
    try:
        # Without comments: the library renames samples by the type that a comment gives.
        families = list(text_string_to_metric_families(b"\n".join(lines).decode() + "\n"))
    except ValueError:
        return None  # such as a label given twice
    samples: _Samples = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((dict(sample.labels), float(sample.value)))
    return samples


def _check_values(metrics: EndpointMetrics, samples: _Samples, engine: Engine) -> None:
    if any(len(found) > MAX_RANKS for found in samples.values()):
        return
    copies = engine.copy_labels
    waiting = _expected(engine.waiting, samples, copies, in_sum=True)
    assert metrics.waiting_queue_size == (None if waiting is None else int(waiting)), "waiting"
    running = _expected(engine.running, samples, copies, in_sum=True)
    assert metrics.running_requests == (None if running is None else int(running)), "running"
    blocks = _expected(engine.blocks, samples, copies, in_sum=False)
    assert metrics.kv_blocks == (None if blocks is None else int(blocks) or None), "blocks"
    kv = _expected(engine.kv_utilization, samples, copies, in_sum=False)
    assert metrics.kv_cache_utilization == (None if kv is None or kv > 1.01 else min(1.0, kv)), "utilization"


def _expected(sources: tuple[Source, ...], samples: _Samples, copies: frozenset[str], *, in_sum: bool) -> float | None:
    for source in sources:
        match source:
            case Series():
                value = _over_ranks(source, samples, copies, in_sum=in_sum)
            case Difference(one, two) | Ratio(one, two):
                first, second = (_over_ranks(series, samples, copies, in_sum=in_sum) for series in (one, two))
                if first is None or second is None or (isinstance(source, Ratio) and second == 0):
                    value = None
                else:
                    value = first / second if isinstance(source, Ratio) else max(0.0, first - second)
        if value is not None:
            return value
    return None


def _over_ranks(series: Series, samples: _Samples, copies: frozenset[str], *, in_sum: bool) -> float | None:
    found = samples.get(series.name, [])
    if series.where:
        found = [sample for sample in found if sample[0].get(series.where[0], "") == series.where[1]]
    if not in_sum:
        return max(
            (value for value in (_number(sample, series) for sample in found) if value is not None), default=None
        )
    ranks: dict[frozenset[tuple[str, str]], tuple[_Labels, float]] = {}
    for sample in found:
        key = (
            frozenset(item for item in sample[0].items() if item[0] not in copies)
            if copies
            else frozenset({("", str(len(ranks)))})
        )
        rival = ranks.get(key)
        if rival is None or _finite(sample[1]) > _finite(rival[1]):
            ranks[key] = sample
    values = [_number(sample, series) for sample in ranks.values()]
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _finite(value: float) -> float:
    return value if abs(value) <= _LARGEST else 0.0


def _number(sample: tuple[_Labels, float], series: Series) -> float | None:
    value = sample[1]
    if series.label:
        text = sample[0].get(series.label, "")
        if not re.fullmatch(_VALUE, text.encode()):
            return None
        value = float(text)
    return value if math.isfinite(value) and 0 <= value <= _LARGEST else None


_VALUES = (
    "0", "1", "3.0", "0.5", "1.005", "2", "17", "1e3", "-1", "NaN", "+Inf", "-Inf", "9007199254740993", "1e400",
    "1e-9", ".5",
    "5.", "0x1p3", "1_0", "", "1 1700000000000", '1 # {a="b"} 1', "\uff11", "inf", "1e99999", "nan", "-0.0",
    "1" * 3000 + "x", "0." + "0" * 3000 + "1e", "." * 3000,
)  # fmt: skip
_LABELS = (
    "engine", "model_name", "tp_rank", "pid", "request_type", "kv_cache_block_type", "block_size", "num_gpu_blocks",
    "max_lora", "running_lora_adapters", "waiting_lora_adapters", "x",
)  # fmt: skip
_TEXTS = (
    "0", "1", "m", "waiting", "active", "scheduled", "used", "max", "fraction", "tokens_per", "16", "a,b", 'q\\"uote',
    "\\\\",
    "\\n", "}", "{", ",", "é", "", "2024", "1e3", "-1", "a" * 300,
    "1" * 3000 + "x",
)  # fmt: skip
_ALL_NAMES = tuple(name for engine in ENGINES.values() for name in engine.metric_names)


def generate(rng: random.Random) -> bytes:
    engine = rng.choice(tuple(ENGINES.values()))
    simple = rng.random() < 0.6
    lines = []
    for _ in range(rng.randrange(1, 12)):
        name = rng.choice(engine.metric_names if rng.random() < 0.9 else _ALL_NAMES)
        labels = [f'{label}="{rng.choice(_TEXTS)}"' for label in rng.sample(_LABELS, rng.randrange(4))]
        value = rng.choice(_VALUES[:12] if simple else _VALUES)
        braces = "{" + ",".join(labels) + "}" if labels or rng.random() < 0.5 else ""
        lines.append(f"{name}{braces} {value}")
        if rng.random() < 0.1:
            lines.append(rng.choice(("# HELP x y", "", "garbage", f"# TYPE {name} gauge", "x{", 'x{a="')))
    head = bytes((0, 0, 0, 0)) if simple else bytes(rng.randrange(256) for _ in range(4))
    return head + rng.choice(("\n", "\n", "\n", "\r\n")).join(lines).encode() + rng.choice((b"\n", b"\n", b""))


TARGET = Target(
    "metrics",
    check,
    generate,
    seeds=tuple(plain(path.read_bytes()[:6000], 0) for path in sorted(PAGES.glob("*.prom"))),
    tokens=(
        *(f"\n{name}".encode() for name in _ALL_NAMES), *(f'{label}="'.encode() for label in _LABELS),
        b"{", b"}", b"} 1\n", b'"', b"\\", b'\\"', b",", b" NaN\n", b" -1\n", b" 1e3\n", b"# TYPE ", b"\n", b"\r\n",
        b" # {", b"=",
    ),
)  # fmt: skip
