"""Intervals of a median come from order statistics: they hold it as often as they say, whatever the distribution."""

import math
import random

import pytest
from benchmarks.intervals import WANTED, Estimate, coverage, ratios
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("passes", "low", "high", "covered"),
    [
        pytest.param(1, 1, 1, 0.0, id="one-pass-says-nothing"),
        pytest.param(3, 1, 3, 0.75, id="three"),
        pytest.param(5, 1, 5, 0.9375, id="five-give-their-range"),
        pytest.param(7, 1, 7, 0.984375, id="seven-still-do"),
        pytest.param(9, 2, 8, 0.9609375, id="of-nine-the-ends-are-left-out"),
    ],
)
def test_interval_of_the_numbers_from_one(passes: int, low: float, high: float, covered: float) -> None:
    estimate = Estimate.of([float(number) for number in range(passes, 0, -1)])
    assert estimate == Estimate((passes + 1) / 2, low, high, covered, passes)


@pytest.mark.parametrize("passes", [5, 9])
def test_the_interval_holds_the_true_median_as_often_as_it_says(passes: int) -> None:
    source, held, tries = random.Random(7), 0, 2000
    for _ in range(tries):
        estimate = Estimate.of([source.expovariate(1.0) for _ in range(passes)])
        held += estimate.low <= math.log(2) <= estimate.high
    assert held / tries == pytest.approx(estimate.coverage, abs=0.02)


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=40))
def test_the_median_is_inside_and_enough_passes_reach_the_wanted_coverage(figures: list[float]) -> None:
    estimate = Estimate.of(figures)
    assert estimate.low <= estimate.median <= estimate.high
    assert estimate.coverage >= WANTED or len(figures) < 5


def test_the_whole_range_covers_all_but_equal_throws() -> None:
    assert coverage(4, 1) == pytest.approx(1 - 2 / 16)


def test_ratios_are_taken_pass_by_pass_and_a_divisor_of_nothing_is_left_out() -> None:
    found = ratios([2.0, 9.0, 1.0], [1.0, 3.0, 0.0])
    assert Estimate.of(found) == Estimate(2.5, 2.0, 3.0, 0.5, 2)


def test_text_gives_the_median_with_its_interval_in_the_wanted_unit() -> None:
    estimate = Estimate.of([0.001, 0.002, 0.004])
    assert estimate.text(1, 1000.0) == "2.0 (1.0 to 4.0)"
    assert Estimate.of([0.001]).text(1, 1000.0) == "1.0"
