"""Prefill backlog of the ledger: prompts fill it, time drains it, and an endpoint without requests has none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.requestcontrol.ledger import InFlightLedger


class FakeClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Backlogs:
    """A ledger whose endpoints compute 1000 prompt tokens per second."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = InFlightLedger(clock=self.clock, prefill_tokens_per_second=1000.0)

    def place(self, name: str, address: str, tokens: int) -> None:
        self.ledger.place(name, address, tokens, 50, self.clock.now)

    def of(self, *addresses: str) -> list[float]:
        return [self.ledger.counters(address).prefill_backlog_tokens for address in addresses]


@pytest.fixture
def backlogs() -> Backlogs:
    return Backlogs()


def test_prompts_add_up_and_drain_with_time_but_not_below_zero(backlogs: Backlogs) -> None:
    backlogs.place("1", "here", 600)
    backlogs.clock.now += 0.25
    backlogs.place("2", "here", 400)
    assert backlogs.of("here", "there") == [750.0, 0.0]
    backlogs.clock.now += 0.5
    assert backlogs.of("here") == [250.0]
    backlogs.clock.now += 60.0
    assert backlogs.of("here") == [0.0]
    backlogs.place("3", "here", 100)
    assert backlogs.of("here") == [100.0]


def test_it_needs_no_first_token(backlogs: Backlogs) -> None:
    backlogs.place("1", "here", 600)
    backlogs.ledger.first_token("1")
    assert backlogs.of("here") == [600.0]


def test_endpoint_without_requests_has_none(backlogs: Backlogs) -> None:
    backlogs.place("1", "here", 600)
    backlogs.place("2", "here", 600)
    backlogs.ledger.release("1")
    assert backlogs.of("here") == [1200.0]
    backlogs.ledger.release("2")
    assert backlogs.of("here") == [0.0]
    backlogs.place("3", "here", 10)
    assert backlogs.of("here") == [10.0]


def test_expired_requests_leave_none() -> None:
    ledger = InFlightLedger(time_limit_seconds=1.0)
    ledger.place("1", "here", 600, 0, now=0.0)
    ledger.expire(2.0)
    ledger.place("2", "here", 10, 0, now=2.0)
    assert ledger.counters("here").prefill_backlog_tokens == 10.0


def test_moved_request_takes_its_prompt_along(backlogs: Backlogs) -> None:
    backlogs.place("1", "here", 600)
    backlogs.place("2", "here", 400)
    backlogs.ledger.move("2", "there")
    assert backlogs.of("here", "there") == [600.0, 400.0]


def test_moved_request_takes_no_more_than_is_left(backlogs: Backlogs) -> None:
    backlogs.place("1", "here", 600)
    backlogs.place("2", "here", 400)
    backlogs.clock.now += 0.75
    backlogs.ledger.move("2", "there")
    assert backlogs.of("here", "there") == [0.0, 250.0]


def test_request_moved_after_its_first_token_takes_nothing(backlogs: Backlogs) -> None:
    backlogs.place("1", "here", 600)
    backlogs.place("2", "here", 400)
    backlogs.ledger.first_token("2")
    backlogs.ledger.move("2", "there")
    assert backlogs.of("here", "there") == [1000.0, 0.0]


def test_totals_are_the_sum(backlogs: Backlogs) -> None:
    backlogs.place("1", "here", 600)
    backlogs.place("2", "there", 100)
    backlogs.clock.now += 0.25
    assert backlogs.ledger.totals.prefill_backlog_tokens == 350.0


@pytest.mark.parametrize("pace", [0.0, -1.0, float("nan")])
def test_pace_must_be_positive(pace: float) -> None:
    with pytest.raises(ValueError, match="prefill_tokens_per_second"):
        InFlightLedger(prefill_tokens_per_second=pace)


@given(
    st.lists(
        st.tuples(st.sampled_from("pmr"), st.integers(0, 5), st.sampled_from("ab"), st.floats(0.0, 2.0)), max_size=40
    )
)
def test_backlog_is_never_negative_and_never_more_than_the_prompts(steps: list[tuple[str, int, str, float]]) -> None:
    backlogs = Backlogs()
    ledger = backlogs.ledger
    placed = 0
    for step, number, address, seconds in steps:
        match step:
            case "p":
                placed += 700 * ledger.place(str(number), address, 700, 0, backlogs.clock.now)
            case "m":
                ledger.move(str(number), address)
            case _:
                ledger.release(str(number))
        assert 0.0 <= ledger.totals.prefill_backlog_tokens <= placed
        backlogs.clock.now += seconds
        for name in "ab":
            assert ledger.counters(name).requests or backlogs.of(name) == [0.0]
