"""InFlightLedger: every request counts once, on one endpoint, until it is released once; idle means exactly zero."""

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from endpoint_picker.domain.endpoint import InFlight
from endpoint_picker.requestcontrol.ledger import InFlightLedger


class Counts(NamedTuple):
    requests: int
    prompt_tokens: int
    total_tokens: int


IDLE = Counts(0, 0, 0)


def counts(counters: InFlight) -> Counts:
    return Counts(counters.requests, counters.prompt_tokens, counters.total_tokens)


def test_placed_request_counts_on_its_endpoint_and_in_the_totals() -> None:
    ledger = InFlightLedger()
    here, there = ledger.counters("here"), ledger.counters("there")
    assert ledger.place("1", "here", 100, 20, now=0.0)
    assert (counts(here), counts(there), counts(ledger.totals)) == ((1, 100, 120), IDLE, (1, 100, 120))
    assert ledger.address_of("1") == "here"


def test_first_token_ends_the_prefill_once() -> None:
    ledger = InFlightLedger()
    ledger.place("1", "here", 100, 20, now=0.0)
    assert [ledger.first_token("1"), ledger.first_token("1")] == [True, False]
    assert counts(ledger.counters("here")) == counts(ledger.totals) == (1, 0, 120)


@pytest.mark.parametrize(
    ("first_token", "moved"),
    [pytest.param(False, (1, 100, 120), id="before"), pytest.param(True, (1, 0, 120), id="after-the-first-token")],
)
def test_moved_request_counts_where_it_is_served(first_token: bool, moved: Counts) -> None:
    ledger = InFlightLedger()
    here, there = ledger.counters("here"), ledger.counters("there")
    ledger.place("1", "here", 100, 20, now=0.0)
    if first_token:
        ledger.first_token("1")
    assert [ledger.move("1", "there"), ledger.move("1", "there")] == [True, False]
    assert (counts(here), counts(there), counts(ledger.totals)) == (IDLE, moved, moved)


def test_request_is_released_exactly_once() -> None:
    ledger = InFlightLedger()
    ledger.place("1", "here", 100, 20, now=0.0)
    assert [ledger.release("1"), ledger.release("1")] == [True, False]
    assert counts(ledger.counters("here")) == counts(ledger.totals) == IDLE
    assert ledger.ignored == 1
    assert ledger.address_of("1") is None


def test_unknown_requests_are_ignored_and_counted() -> None:
    ledger = InFlightLedger()
    assert [ledger.release("x"), ledger.first_token("x"), ledger.move("x", "there")] == [False, False, False]
    assert (ledger.ignored, ledger.addresses, counts(ledger.totals)) == (3, (), IDLE)


def test_second_placement_of_a_request_is_ignored() -> None:
    ledger = InFlightLedger()
    ledger.place("1", "here", 100, 20, now=0.0)
    assert not ledger.place("1", "there", 5, 5, now=1.0)
    assert (ledger.addresses, counts(ledger.totals), ledger.ignored) == (("here",), (1, 100, 120), 1)


def test_negative_tokens_count_as_none() -> None:
    ledger = InFlightLedger()
    ledger.place("1", "here", -5, -7, now=0.0)
    assert counts(ledger.totals) == (1, 0, 0)


def test_overdue_requests_are_released() -> None:
    ledger = InFlightLedger(time_limit_seconds=10.0)
    for number in range(4):
        ledger.place(str(number), "here", 10, 0, now=float(number))
    assert [ledger.expire(now) for now in (9.9, 11.0, 11.0)] == [0, 2, 0]
    assert (counts(ledger.counters("here")), ledger.expired) == ((2, 20, 20), 2)
    assert not ledger.release("0")


def test_one_minute_unless_told_otherwise() -> None:
    ledger = InFlightLedger()
    ledger.place("1", "here", 1, 1, now=0.0)
    assert [ledger.expire(59.0), ledger.expire(60.0)] == [0, 1]


def test_a_renewed_request_has_another_time_limit_and_holds_up_nothing_behind_it() -> None:
    ledger = InFlightLedger(time_limit_seconds=10.0)
    ledger.place("long", "here", 1, 1, now=0.0)
    ledger.place("lost", "here", 1, 1, now=1.0)
    assert ledger.renew("long", 8.0)
    assert [ledger.expire(now) for now in (11.0, 17.0, 18.0)] == [1, 0, 1]
    assert not ledger.renew("long", 18.0)
    assert counts(ledger.counters("here")) == IDLE


def test_time_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="time_limit_seconds"):
        InFlightLedger(time_limit_seconds=0.0)


def test_counters_stay_the_same_object() -> None:
    ledger = InFlightLedger()
    before = ledger.counters("here")
    ledger.place("1", "here", 1, 1, now=0.0)
    ledger.release("1")
    assert ledger.counters("here") is before


def test_endpoint_is_forgotten_at_once_when_idle() -> None:
    ledger = InFlightLedger()
    ledger.counters("here")
    ledger.forget("here")
    ledger.forget("stranger")
    assert ledger.addresses == ()


def test_busy_endpoint_is_forgotten_when_its_last_request_ends() -> None:
    ledger = InFlightLedger()
    ledger.counters("here")
    ledger.place("1", "here", 1, 1, now=0.0)
    ledger.forget("here")
    assert ledger.addresses == ("here",)
    ledger.release("1")
    assert ledger.addresses == ()


def test_endpoint_that_comes_back_is_not_forgotten() -> None:
    ledger = InFlightLedger()
    before = ledger.counters("here")
    ledger.place("1", "here", 1, 1, now=0.0)
    ledger.forget("here")
    assert ledger.counters("here") is before
    ledger.release("1")
    assert ledger.addresses == ("here",)


def test_request_placed_after_its_endpoint_left_leaves_nothing_behind() -> None:
    ledger = InFlightLedger()
    ledger.place("1", "gone", 1, 1, now=0.0)
    ledger.move("1", "gone-too")
    ledger.release("1")
    assert ledger.addresses == ()


# -- corrections ------------------------------------------------------------------------------------------------------


def test_a_correction_needs_no_request_to_be_pointed_at() -> None:
    ledger = InFlightLedger(adopted_tokens=7)
    here = ledger.counters("here")
    ledger.place("1", "here", 100, 20, now=0.0)
    ledger.correct("here", 3)
    assert counts(here) == counts(ledger.totals) == (4, 100, 141)
    ledger.correct("here", -3)
    assert counts(here) == counts(ledger.totals) == (1, 100, 120)
    ledger.correct("here", -5)
    assert counts(here) == counts(ledger.totals) == (0, 100, 120)
    assert ledger.corrections == {"here": -1}


def test_an_adopted_request_ends_once() -> None:
    ledger = InFlightLedger()
    ledger.counters("here")
    ledger.correct("here", 1)
    assert [ledger.release_adopted("here"), ledger.release_adopted("here")] == [True, False]
    assert not ledger.release_adopted("stranger")
    assert counts(ledger.totals) == IDLE


def test_no_correction_makes_an_endpoint_known() -> None:
    ledger = InFlightLedger()
    ledger.correct("stranger", 5)
    assert (ledger.addresses, counts(ledger.totals)) == ((), IDLE)


def test_a_request_that_was_counted_down_ends_without_debt() -> None:
    ledger = InFlightLedger()
    here = ledger.counters("here")
    ledger.place("1", "here", 1, 1, now=0.0)
    ledger.correct("here", -1)
    ledger.release("1")
    ledger.place("2", "here", 1, 1, now=0.0)
    assert (counts(here), ledger.corrections) == ((1, 1, 2), {})


def test_a_request_that_was_counted_down_expires_without_counting_twice() -> None:
    ledger = InFlightLedger(time_limit_seconds=10.0)
    here = ledger.counters("here")
    for number in range(3):
        ledger.place(str(number), "here", 1, 1, now=number * 5.0)
    ledger.correct("here", -1)
    assert [ledger.expire(10.0), here.requests, ledger.expire(15.0), here.requests] == [1, 2, 1, 1]


def test_adopted_requests_expire_when_nothing_is_heard_of_their_endpoint() -> None:
    ledger = InFlightLedger(time_limit_seconds=10.0)
    for address in ("here", "there"):
        ledger.counters(address)
        ledger.correct(address, 2)
    ledger.confirm(["here", "there", "stranger"], 1.0)
    ledger.confirm(["there"], 5.0)
    assert [ledger.expire(now) for now in (10.9, 11.0, 15.0)] == [0, 2, 2]
    assert (counts(ledger.totals), ledger.expired) == (IDLE, 4)


def test_the_counters_of_an_endpoint_that_left_stay_while_it_has_adopted_requests() -> None:
    ledger = InFlightLedger()
    ledger.counters("here")
    ledger.correct("here", 1)
    ledger.forget("here")
    assert ledger.addresses == ("here",)
    ledger.release_adopted("here")
    assert ledger.addresses == ()


def test_the_counters_of_an_endpoint_stay_while_it_has_requests_that_were_counted_down() -> None:
    ledger = InFlightLedger()
    ledger.counters("here")
    ledger.place("1", "here", 1, 1, now=0.0)
    ledger.correct("here", -1)
    ledger.forget("here")
    ledger.first_token("1")
    assert ledger.release("1")
    assert (ledger.addresses, counts(ledger.totals)) == ((), IDLE)


def test_lost_requests_leave_without_a_change_of_the_count() -> None:
    ledger = InFlightLedger(clock=lambda: 2.0)
    here = ledger.counters("here")
    for request, address in (("moved", "there"), ("1", "here"), ("other", "there"), ("2", "here")):
        ledger.place(request, address, 5, 5, now=0.0)
    ledger.move("moved", "here")
    ledger.correct("here", -2)
    assert ledger.drop_lost("here", 1.0) == 2
    assert (counts(here), ledger.corrections) == ((1, 5, 10), {})
    assert [ledger.address_of(request) for request in ("1", "2", "moved")] == [None, None, "here"]
    assert ledger.drop_lost("here", 9.0) == 0


def test_what_another_data_plane_serves_is_known_apart() -> None:
    ledger = InFlightLedger()
    ledger.place("own", "here", 1, 1, now=0.0)
    ledger.place("else", "here", 1, 1, now=0.0, elsewhere=True)
    assert (ledger.known()["here"].requests, ledger.placed_until(0.0)) == (1, {"here": 1})
    ledger.move("else", "there")
    assert (ledger.known()["here"].requests, ledger.known()["there"].requests) == (1, 0)
    ledger.release("else")
    assert ledger.counters("there").requests == 0
    ledger.place("own-2", "there", 1, 1, now=0.0)
    assert ledger.known()["there"].requests == 1


IDS = st.sampled_from([str(number) for number in range(8)])
ADDRESSES = st.sampled_from(["a", "b", "c"])
TOKENS = st.integers(min_value=-10, max_value=10_000)


class LedgerMachine(RuleBasedStateMachine):
    """Compares the ledger with sums over a plain list of requests, and one number per address of what was corrected."""

    LIMIT = 5.0
    ADOPTED_TOKENS = 3

    def __init__(self) -> None:
        super().__init__()
        self.ledger = InFlightLedger(self.LIMIT, adopted_tokens=self.ADOPTED_TOKENS)
        self.corrections: dict[str, int] = {}
        self.confirmed: dict[str, float] = {}
        self.requests: dict[str, list[int | float | str]] = {}  # address, prompt, total, placed at
        self.present: set[str] = set()
        self.now = 0.0

    @rule(request=IDS, address=ADDRESSES, prompt=TOKENS, output=TOKENS)
    def place(self, request: str, address: str, prompt: int, output: int) -> None:
        is_new = request not in self.requests
        assert self.ledger.place(request, address, prompt, output, self.now) == is_new
        if is_new:
            self.requests[request] = [address, max(0, prompt), max(0, prompt) + max(0, output), self.now]

    @rule(request=IDS)
    def first_token(self, request: str) -> None:
        known = self.requests.get(request)
        assert self.ledger.first_token(request) == (known is not None and known[1] != 0)
        if known:
            known[1] = 0

    @rule(request=IDS, address=ADDRESSES)
    def move(self, request: str, address: str) -> None:
        known = self.requests.get(request)
        assert self.ledger.move(request, address) == (known is not None and known[0] != address)
        if known:
            known[0] = address

    @rule(request=IDS)
    def release(self, request: str) -> None:
        assert self.ledger.release(request) == (self.requests.pop(request, None) is not None)
        assert not self.ledger.release(request)

    def placed(self, address: str) -> int:
        return sum(known[0] == address for known in self.requests.values())

    def settle(self) -> None:
        """No count is below nothing, and what is known of an address ends with its last request."""
        for address in "abc":
            placed = self.placed(address)
            self.corrections[address] = max(self.corrections.get(address, 0), -placed)
            if not placed and not self.corrections[address] and address not in self.present:
                self.confirmed.pop(address, None)

    @rule(address=ADDRESSES, by=st.integers(-4, 4))
    def correct(self, address: str, by: int) -> None:
        if address in self.ledger.addresses:
            self.corrections[address] += by
        self.ledger.correct(address, by)
        assert self.ledger.correction(address) == max(self.corrections.get(address, 0), -self.placed(address))

    @rule(address=ADDRESSES)
    def release_adopted(self, address: str) -> None:
        adopted = self.corrections.get(address, 0) > 0
        assert self.ledger.release_adopted(address) == adopted
        self.corrections[address] = self.corrections.get(address, 0) - adopted

    @rule(address=ADDRESSES)
    def drop_lost(self, address: str) -> None:
        here = [request for request, known in self.requests.items() if known[0] == address]
        lost = here[: max(0, -self.corrections.get(address, 0))]
        assert self.ledger.drop_lost(address, self.now) == len(lost)
        for request in lost:
            del self.requests[request]
            self.corrections[address] += 1

    @rule(address=ADDRESSES)
    def confirm(self, address: str) -> None:
        if address in self.ledger.addresses:
            self.confirmed[address] = self.now
        self.ledger.confirm([address], self.now)

    @rule(seconds=st.floats(min_value=0.0, max_value=8.0))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        latest = self.now - self.LIMIT
        overdue = [request for request, known in self.requests.items() if known[3] <= latest]
        expired = len(overdue)
        for request in overdue:
            address = str(self.requests.pop(request)[0])
            if self.corrections.get(address, 0) < 0:
                self.corrections[address] += 1
        for address, correction in self.corrections.items():
            if correction > 0 and self.confirmed.get(address, 0.0) <= latest:
                self.corrections[address] = 0
                expired += correction
        assert self.ledger.expire(self.now) == expired

    @rule(address=ADDRESSES)
    def look(self, address: str) -> None:
        self.present.add(address)
        self.ledger.counters(address)

    @rule(address=ADDRESSES)
    def forget(self, address: str) -> None:
        self.present.discard(address)
        self.ledger.forget(address)

    @invariant()
    def counters_are_the_sums(self) -> None:
        self.settle()
        expected = dict.fromkeys(self.present, IDLE)
        total = IDLE
        corrected = [
            (address, by, 0, max(0, by) * self.ADOPTED_TOKENS) for address, by in self.corrections.items() if by
        ]
        placed = [(address, 1, prompt, whole) for address, prompt, whole, _ in self.requests.values()]
        for address, *one in [*placed, *corrected]:
            expected[address] = Counts(*map(sum, zip(expected.get(address, IDLE), one, strict=True)))
            total = Counts(*map(sum, zip(total, one, strict=True)))
        assert {address: counts(found) for address, found in self.ledger._counters.items()} == expected
        assert counts(self.ledger.totals) == total
        assert min(total) >= 0

    def teardown(self) -> None:
        """Release everything: an idle ledger is exactly zero."""
        for request in list(self.requests):
            self.ledger.release(request)
        for address, correction in self.ledger.corrections.items():
            self.ledger.correct(address, -correction)
        assert counts(self.ledger.totals) == IDLE
        assert {counts(found) for found in self.ledger._counters.values()} <= {IDLE}
        assert set(self.ledger.addresses) == self.present


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=40, stateful_step_count=30)
