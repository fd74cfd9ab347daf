"""Figures of the gateway benchmark: verdicts, trends of memory, true ages, ratios taken pass by pass."""

import math

import pytest
from benchmarks.gateway import cells, flat
from benchmarks.gateway.arms import ALONE, CONSTANT, ENVOY, GATEWAY, OWN_SERVER, PICKER, RARE_PAGES, Use
from benchmarks.gateway.background import Window
from benchmarks.gateway.bars import Bar
from benchmarks.gateway.command import parts_of
from benchmarks.gateway.load_tables import floor_ratio
from benchmarks.gateway.loads import Load, LoadFigures, Pass, requests_of_a_pass
from benchmarks.gateway.memory import Sample, trend
from benchmarks.gateway.tables import Table
from benchmarks.gateway.throughput import Turn, limit_of
from benchmarks.intervals import Estimate
from benchmarks.quantiles import Summary
from benchmarks.workloads import BY_NAME

from igw.errors import BadInput

TTFB = Summary.of([0.001, 0.002, 0.003])


def use(picker: float, *, pages: int = 0, seconds: float = 1.0) -> Use:
    return Use(seconds, {PICKER: picker, ENVOY: 0.1, "server": 0.1, "client": 0.1}, pages)


def load(name: str, gateway: list[float], constant: list[float], *, pages: int = 0) -> Load:
    """Return a load of ten requests per pass with the picker's CPU seconds of each pass."""
    found = Load(BY_NAME[name], concurrency=16, requests=10)
    found.passes[GATEWAY] = [Pass(10, (), use(cpu, pages=pages), TTFB) for cpu in gateway]
    found.passes[CONSTANT] = [Pass(10, (), use(cpu), TTFB) for cpu in constant]
    found.passes[OWN_SERVER] = found.passes[CONSTANT]
    found.passes[ALONE] = [Pass(10, (), use(0.0), Summary.of([0.0005])) for _ in gateway]
    return found


OTHERS = dict.fromkeys((CONSTANT, OWN_SERVER, RARE_PAGES, ALONE), use(0.0))
NOTHING = Window(busy=False, uses={GATEWAY: use(0.0), **OTHERS})
PAGES = Window(busy=True, uses={GATEWAY: use(0.1, pages=100), **OTHERS})


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        pytest.param([1.0, 1.2, 1.5], "PASS", id="wholly-below"),
        pytest.param([1.0, 1.2, 1.7], "PASS?", id="reaches-above"),
        pytest.param([1.5, 1.7, 1.8], "FAIL?", id="reaches-below"),
        pytest.param([1.7, 1.8, 1.9], "FAIL", id="wholly-above"),
        pytest.param([1.6, 1.6, 1.6], "PASS", id="at-the-limit"),
        pytest.param([math.nan], "FAIL?", id="nothing-was-measured"),
    ],
)
def test_a_verdict_is_by_the_median_and_unsure_where_the_interval_holds_the_limit(
    samples: list[float], verdict: str
) -> None:
    assert Bar("", 1.6, Estimate.of(samples), "").verdict == verdict


def test_the_floor_is_compared_pass_by_pass_without_the_pages_read_meanwhile() -> None:
    # Ten pages of a millisecond each are taken off every pass of the gateway.
    one = load("json-2k", gateway=[0.03, 0.05, 0.07], constant=[0.02, 0.02, 0.02], pages=10)
    figures = LoadFigures((one,), (NOTHING, PAGES))
    ratio = floor_ratio(one, figures.background)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((1.0, 2.0, 3.0))
    assert one.added("p50") == pytest.approx([0.0015] * 3)


def test_every_load_is_held_against_the_floor_of_its_prompt() -> None:
    small = load("stream16-2k", gateway=[0.015], constant=[0.008])
    large = load("stream16-100k", gateway=[0.015], constant=[0.008])
    found = {bar.name: bar for bar in cells.bars(LoadFigures((small, large), (NOTHING, PAGES)))}
    assert found["picker by constant picker, stream16-2k c=16"].limit == 1.6
    assert found["picker by constant picker, stream16-2k c=16"].verdict == "FAIL"
    assert found["picker by constant picker, stream16-100k c=16"].verdict == "PASS"
    assert len(found) == 2


def test_long_streams_are_held_against_short_ones_by_the_gateway_that_reads_few_pages() -> None:
    loads = [load(name, gateway=[0.05], constant=[0.01]) for name in ("stream16-2k", "stream512-2k")]
    for one, cpu in zip(loads, (0.010, 0.012), strict=True):
        one.passes[RARE_PAGES] = [Pass(10, (), use(cpu), TTFB)]
    (bar,) = flat.bars(LoadFigures(tuple(loads), (NOTHING, PAGES)))
    assert bar.figure.median == pytest.approx(1.2)
    assert bar.verdict == "FAIL"
    assert "constant picker: 1.00" in bar.basis


@pytest.mark.parametrize(
    ("rate", "concurrency", "expected"),
    [
        pytest.param(100.0, 16, 256, id="whole-rounds-of-all-clients"),
        pytest.param(20.0, 64, 128, id="two-rounds-at-least"),
        pytest.param(1.0, 1, 4, id="four-requests-at-least"),
    ],
)
def test_a_pass_has_several_requests_for_each_client(rate: float, concurrency: int, expected: int) -> None:
    assert requests_of_a_pass(rate, concurrency, seconds=2.5) == expected


def samples(per_request: float, *, early: int = 0) -> tuple[Sample, ...]:
    """Return samples that grow by so many bytes per request, and by *early* more in the first third."""
    mib = 100 * 1024 * 1024
    return tuple(
        Sample(n, n / 500, {PICKER: mib + round(per_request * n) + min(n * 3, 90_000) * early // 90_000}, {PICKER: 10})
        for n in range(0, 90_001, 1000)
    )


def test_memory_that_is_taken_in_the_first_third_is_no_growth() -> None:
    found = trend(samples(0.0, early=50_000_000), PICKER)
    assert found.bytes_per_request == pytest.approx(0.0, abs=1e-6)
    assert found.growth == pytest.approx(0.0, abs=1e-9)


def test_a_leak_shows_as_bytes_per_request_and_as_a_share() -> None:
    found = trend(samples(200.0), PICKER)
    assert found.bytes_per_request == pytest.approx(200.0, rel=1e-6)
    assert found.growth == pytest.approx(200 * 60_000 / (100 * 1024 * 1024 + 200 * 30_000), rel=1e-3)


@pytest.mark.parametrize(
    ("picker", "busy", "said"),
    [
        pytest.param(0.95, 1.3, "picker: 0.95", id="a-full-core"),
        pytest.param(0.7, 1.9, "the machine: 1.90 of 2", id="a-full-machine"),
        pytest.param(0.3, 0.9, "no processor", id="neither"),
    ],
)
def test_what_limits_a_rate_is_named(picker: float, busy: float, said: str) -> None:
    turn = Turn(100, (), use(picker), busy, TTFB)
    assert limit_of([turn], 2).startswith(said)


def test_parts_run_in_their_order_and_unknown_ones_are_refused() -> None:
    assert parts_of("memory,cells") == ["cells", "memory"]
    with pytest.raises(BadInput, match="magic"):
        parts_of("cells,magic")


def test_a_table_is_the_same_on_a_terminal_and_on_a_page() -> None:
    table = Table("Title", ("a", "b"), [("x", "1")], "Note.")
    assert table.text() == "Title\na  b\n-  -\nx  1\nNote."
    assert table.markdown() == "| a | b |\n| --- | ---: |\n| x | 1 |\n\nNote.\n"
