"""Restart delays double up to a limit, a low one for a child that was ready, and start over after a healthy time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igw.backoff import Backoff

STEADY = Backoff(
    first_seconds=1.0, longest_after_ready_seconds=3.0, longest_seconds=8.0, healthy_seconds=20.0, jitter=0.0
)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        pytest.param(1, 1.0, id="first"),
        pytest.param(2, 2.0, id="second"),
        pytest.param(4, 8.0, id="at-the-limit"),
        pytest.param(50, 8.0, id="beyond"),
        pytest.param(10_000, 8.0, id="far-beyond"),
    ],
)
def test_delay_doubles_up_to_the_limit(failures: int, expected: float) -> None:
    assert STEADY.delay_seconds(failures, random.Random(0)) == expected


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        pytest.param(1, 1.0, id="first"),
        pytest.param(2, 2.0, id="second"),
        pytest.param(3, 3.0, id="at-the-limit"),
        pytest.param(10_000, 3.0, id="far-beyond"),
    ],
)
def test_a_child_that_was_ready_never_waits_long(failures: int, expected: float) -> None:
    assert STEADY.delay_seconds(failures, random.Random(0), was_ready=True) == expected


def test_by_default_a_child_that_was_ready_is_back_within_two_seconds_whatever_came_before() -> None:
    longest = max(Backoff().delay_seconds(n, random.Random(n), was_ready=True) for n in range(1, 100))
    assert longest <= 0.5  # which leaves a second and a half for its start


@pytest.mark.parametrize(
    ("failures", "ready_seconds", "expected"),
    [
        pytest.param(0, 0.0, 1, id="first-death"),
        pytest.param(3, 19.9, 4, id="died-again-soon"),
        pytest.param(3, 20.0, 1, id="was-healthy-between"),
    ],
)
def test_failures_in_a_row(failures: int, ready_seconds: float, expected: int) -> None:
    assert STEADY.failures_after(failures, ready_seconds) == expected


@given(st.integers(min_value=1, max_value=5000), st.integers(), st.booleans())
def test_jitter_only_shortens_and_never_below_its_share(failures: int, seed: int, was_ready: bool) -> None:
    delay = Backoff(jitter=0.2).delay_seconds(failures, random.Random(seed), was_ready=was_ready)
    assert 0.8 * 0.1 <= delay <= (0.5 if was_ready else 10.0)
