"""An audit makes the ledger equal what the data plane has, and takes nothing that only time explains for lost."""

from dataclasses import dataclass, field

import pytest

from endpoint_picker.requestcontrol.audit import AuditReport, DataPlaneCounts, InFlightAudit
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from endpoint_picker.requestcontrol.open_requests import PendingRequest


def remembered(seen: float = 0.0, *, renewed: bool = False) -> PendingRequest:
    return PendingRequest("r", seen, stream_id="s", renewed=renewed)


@dataclass
class Bench:
    """A ledger with an audit; the data plane says what a test tells it to."""

    now: float = 100.0
    pending: dict[str, PendingRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = InFlightLedger(clock=lambda: self.now, adopted_tokens=10)
        self.audit = InFlightAudit(self.ledger, self, clock=lambda: self.now)
        for address in "ab":
            self.ledger.counters(address)

    def place(self, *requests: str, at: str = "a", elsewhere: bool = False) -> None:
        for request in requests:
            self.ledger.place(request, at, 5, 5, self.now, elsewhere=elsewhere)
            self.pending[request] = remembered(self.now)

    def end(self, *requests: str) -> None:
        for request in requests:
            self.abandon(request)

    def abandon(self, correlation_id: str) -> None:
        self.ledger.release(correlation_id)
        del self.pending[correlation_id]

    def look(self, *, in_all: int | None = None, prompt: bool = True, **endpoints: int) -> AuditReport:
        """One audit half a second after what was before it."""
        self.now += 0.5
        self.audit.begin()
        return self.audit.finish(
            DataPlaneCounts(endpoints, sum(endpoints.values()) if in_all is None else in_all), prompt=prompt
        )

    def requests(self, address: str = "a") -> int:
        return self.ledger.counters(address).requests

    def corrected(self) -> tuple[int, int]:
        """In flight at both endpoints."""
        assert self.ledger.totals.requests == self.requests("a") + self.requests("b")
        return self.requests("a"), self.requests("b")


# -- more than we know ------------------------------------------------------------------------------------------------


def test_the_first_audit_adopts_what_an_earlier_process_left() -> None:
    bench = Bench()
    bench.place("own")
    report = bench.look(a=4, b=2)
    assert (report.adopted, report.drift, report.corrections) == (5, {"a": 3, "b": 2}, {"a": 3, "b": 2})
    assert bench.corrected() == (4, 2)
    assert not report.agreed
    assert bench.look(a=4, b=2).agreed


def test_an_adopted_request_counts_for_the_tokens_expected_of_one() -> None:
    bench = Bench()
    bench.look(a=3)
    assert (bench.ledger.totals.total_tokens, bench.ledger.totals.prompt_tokens) == (30, 0)
    bench.ledger.release_adopted("a")
    assert bench.ledger.counters("a").total_tokens == 20


def test_later_only_what_two_audits_in_a_row_find_is_adopted() -> None:
    bench = Bench()
    bench.look(a=0)
    assert [bench.look(a=found).adopted for found in (3, 2, 5, 5, 0, 9)] == [0, 2, 0, 3, 0, 0]


def test_what_was_placed_or_ended_during_the_look_is_not_lacking() -> None:
    bench = Bench()
    bench.place("ends")
    bench.audit.begin()
    bench.end("ends")
    bench.place("comes")
    # the page may be from before the end, from after the placement, or from in between
    report = bench.audit.finish(DataPlaneCounts({"a": 2}, 2))
    assert report.adopted == 0


def test_an_address_that_is_not_ours_is_left_alone() -> None:
    bench = Bench()
    report = bench.look(a=0, stranger=7)
    assert (report.adopted, report.drift, bench.ledger.addresses) == (0, {"a": 0}, ("a", "b"))


# -- less than we know ------------------------------------------------------------------------------------------------


def test_what_the_data_plane_does_not_have_leaves_within_two_seconds() -> None:
    bench = Bench()
    bench.look(a=0)
    bench.place("lost")
    reports = [bench.look(a=0) for _ in range(4)]
    assert [report.dropped for report in reports] == [0, 0, 1, 0]
    assert [report.drift for report in reports] == [{"a": 0}, {"a": 0}, {"a": -1}, {"a": 0}]
    assert bench.corrected() == (0, 0)
    assert bench.ledger.address_of("lost") is None
    bench.look(a=0)
    assert bench.pending == {}


def test_fresh_decisions_are_not_lost() -> None:
    bench = Bench()
    bench.look(a=0)
    for number in range(10):
        bench.place(f"n{number}")
        assert bench.look(a=0).agreed
        bench.end(f"n{number}")


def test_ends_that_are_not_reported_yet_are_not_lost() -> None:
    bench = Bench()
    bench.place("1", "2", "3")
    for _ in range(4):
        bench.look(a=3)
    assert bench.look(a=0).agreed  # they ended just before this look
    bench.end("1", "2", "3")
    assert bench.look(a=0).agreed


@pytest.mark.parametrize("prompt", [True, False])
def test_a_process_that_was_held_up_takes_nothing_for_lost(prompt: bool) -> None:
    bench = Bench()
    bench.place("1")
    dropped = sum(bench.look(a=0, prompt=prompt).dropped for _ in range(5))
    assert dropped == (1 if prompt else 0)


def test_a_second_look_right_after_the_first_proves_nothing() -> None:
    bench = Bench()
    bench.place("1")
    bench.look(a=1)
    bench.now += 2.0
    for _ in range(2):  # ended just before the first of the two
        bench.audit.begin()
        assert bench.audit.finish(DataPlaneCounts({"a": 0})).dropped == 0


def test_a_request_that_moved_is_fresh_where_it_came_to() -> None:
    bench = Bench()
    bench.place("1")
    for _ in range(4):
        bench.look(a=1, b=0)
    bench.look(a=0, b=0)  # between two attempts
    bench.ledger.move("1", "b")
    assert bench.look(a=0, b=0).dropped == 0
    assert bench.corrected() == (0, 1)


def test_adopted_requests_go_first() -> None:
    bench = Bench()
    bench.look(a=3)
    bench.place("own")
    for _ in range(3):
        bench.look(a=4)
    for _ in range(3):
        bench.look(a=1)
    assert bench.corrected() == (1, 0)
    assert bench.ledger.address_of("own") == "a"
    assert bench.ledger.corrections == {}


def test_when_it_is_not_known_which_are_lost_only_their_number_leaves() -> None:
    bench = Bench()
    bench.place("1", "2", "3")
    for _ in range(5):
        bench.look(a=2, in_all=3)
    assert bench.corrected() == (2, 0)
    assert len(bench.pending) == 3
    assert bench.look(a=2, in_all=3).agreed
    bench.end("2", "3")  # the others end: their ends are reported
    assert bench.corrected() == (0, 0)
    for _ in range(3):
        bench.look(a=0)
    assert (bench.ledger.address_of("1"), bench.pending, bench.ledger.corrections) == (None, {}, {})


def test_one_that_was_taken_for_lost_and_ends_after_all_leaves_no_debt() -> None:
    bench = Bench()
    bench.place("1", "2")
    for _ in range(5):
        bench.look(a=1, in_all=2)
    bench.end("1")
    bench.end("2")
    assert bench.corrected() == (0, 0)
    bench.place("3")
    assert bench.corrected() == (1, 0)


def test_an_endpoint_that_is_not_listed_keeps_its_requests() -> None:
    bench = Bench()
    bench.place("1")
    for _ in range(5):
        assert bench.look(b=0, in_all=1).dropped == 0
    assert bench.corrected() == (1, 0)


def test_requests_of_another_data_plane_are_none_of_this_ones_business() -> None:
    bench = Bench()
    bench.place("1", "2", elsewhere=True)
    for request in bench.pending.values():
        request.stream_id = ""
    bench.place("own")
    for _ in range(5):
        assert bench.look(a=1).agreed
    assert bench.corrected() == (3, 0)
    assert set(bench.pending) == {"1", "2", "own"}


# -- what is remembered of requests -----------------------------------------------------------------------------------


def test_requests_outside_the_ledger_are_forgotten_when_the_data_plane_has_none() -> None:
    bench = Bench()
    bench.pending["to-a-service"] = remembered(bench.now)
    for _ in range(5):
        bench.look(a=0, in_all=1)
    assert set(bench.pending) == {"to-a-service"}
    for _ in range(2):
        bench.look(a=0, in_all=0)
    assert bench.pending == {}


def test_no_more_requests_are_forgotten_than_the_data_plane_lacks() -> None:
    bench = Bench()
    for number in range(3):
        bench.pending[str(number)] = remembered(bench.now + number * 0.01)
    bench.place("placed")
    for _ in range(5):
        bench.look(a=1, in_all=3)
    assert set(bench.pending) == {"1", "2", "placed"}


def test_a_request_that_was_reported_lately_counts_as_one_the_data_plane_has() -> None:
    bench = Bench()
    bench.pending |= {"lost": remembered(bench.now), "long": remembered(bench.now)}
    for _ in range(4):
        bench.pending["long"] = remembered(bench.now, renewed=True)
        bench.look(a=0, in_all=1)
    assert set(bench.pending) == {"long"}


def test_idle_is_nothing_under_way_and_nothing_corrected() -> None:
    bench = Bench()
    assert bench.audit.idle
    bench.look(a=1)
    assert not bench.audit.idle
    bench.ledger.release_adopted("a")
    assert bench.audit.idle
    bench.pending["1"] = remembered()
    assert not bench.audit.idle
