"""A pattern that is accepted costs little on any value, however the two were chosen for each other."""

import time

import pytest

from inference_resolution.regular_expressions import fully_matches, regex_problem

COSTLY = [
    ".*.*x",
    ".*a.*b",
    ".+.+x",
    "(a*)(a*)x",
    "a*b?a*b?x",
    "[ab]*[ab]*x",
    "(?i).*.*X",
    ".*.*[^a]",
    ".*.*a?a?a?a?x",
    "a?a?a?a?.*.*x",
    "(a?)(a?)(a?)(a?).*.*x",
    "(?:.|.)(?:.|.)(?:.|.)(?:.|.).*.*x",
]


@pytest.mark.parametrize("pattern", COSTLY)
def test_an_accepted_pattern_is_quick_on_its_worst_value(pattern: str) -> None:
    assert regex_problem(pattern) == ""
    before = time.process_time()
    for length in (100, 128, 256, 512, 1024, 2048, 50_000):
        assert not fully_matches(pattern, "a" * length)
    assert time.process_time() - before < 1.0  # some 50 ms; seconds where it is not bounded


@pytest.mark.parametrize(
    "pattern",
    [
        "(a*)*",
        "(a|b)*x",
        "(a?){50}x",
        "(.*)+",
        ".*.*.*x",
        "a?" * 5,
        "((a|a)|(a|a))((a|a)|(a|a))",
        "(.{0,9}){2}",
        "a{1,5000}",
    ],
)
def test_what_might_be_slow_is_refused(pattern: str) -> None:
    assert regex_problem(pattern)


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        pytest.param("a*", 2048, id="one-repetition"),
        pytest.param("(a|b)?c?a*", 2048, id="one-repetition-and-choices"),
        pytest.param("a*b*", 1024, id="two-repetitions"),
        pytest.param("a*b*c?", 512, id="and-an-option"),
        pytest.param("a*b*c?d?e?f?", 256, id="and-four-options"),
    ],
)
def test_longer_values_never_match(pattern: str, longest: int) -> None:
    assert fully_matches(pattern, "a" * longest)
    assert not fully_matches(pattern, "a" * (longest + 1))
