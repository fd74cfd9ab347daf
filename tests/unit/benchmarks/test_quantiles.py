"""Quantiles interpolate between neighbouring samples, stay within them, and of nothing are not a number."""

import math
from itertools import pairwise

import pytest
from benchmarks.quantiles import Spread, Summary, quantile
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        pytest.param([7.0], 0.99, 7.0, id="one-sample"),
        pytest.param([1.0, 3.0], 0.5, 2.0, id="between-two"),
        pytest.param([0.0, 10.0, 20.0, 30.0, 40.0], 0.9, 36.0, id="linear"),
        pytest.param([1.0, 2.0, 3.0], 0.0, 1.0, id="least"),
        pytest.param([1.0, 2.0, 3.0], 1.0, 3.0, id="most"),
    ],
)
def test_quantile(samples: list[float], share: float, expected: float) -> None:
    assert quantile(samples, share) == pytest.approx(expected)


def test_no_samples_have_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))
    assert math.isnan(Summary.of([]).mean)


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1))
def test_quantiles_are_ordered_and_within_the_samples(samples: list[float]) -> None:
    summary = Summary.of(samples)
    figures = [min(samples), summary.p50, summary.p90, summary.p99, max(samples)]
    assert all(low <= high or math.isclose(low, high) for low, high in pairwise(figures))


def test_a_spread_shows_the_median_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, least=1.0, most=3.0)
