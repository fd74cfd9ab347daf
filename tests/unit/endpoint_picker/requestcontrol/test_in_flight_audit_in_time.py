"""Audits of a data plane that takes its time: nothing sound is ever corrected, everything else is in the end.

Decisions, dispatches, retries, ends and reports happen in virtual time, also while an audit is being answered. Reports
are lost, requests come that no decision of ours led to, and the process is held up.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from endpoint_picker.requestcontrol.audit import AuditReport, DataPlaneCounts, InFlightAudit
from endpoint_picker.requestcontrol.ledger import InFlightLedger

ADDRESSES = ("a", "b", "c")
INTERVAL = 0.5
HELD_UP = 0.2

dispatch_delays = st.floats(0.0, 0.7)
report_delays = st.floats(0.0, 0.29)
addresses = st.sampled_from(ADDRESSES)


@dataclass(eq=False)
class Request:
    """One request in the data plane; *at* is where it runs, empty while it is nowhere."""

    id: str
    own: bool
    at: str = ""
    over: bool = False
    stream_id: str = "s"
    seen: float = 0.0
    renewed: bool = False


@dataclass
class World:
    """A data plane and a picker in virtual time; what the picker does waits while it is held up."""

    now: float = 100.0
    held_up_until: float = 0.0
    requests: list[Request] = field(default_factory=list)
    pending: dict[str, Request] = field(default_factory=dict)
    reports: list[AuditReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events: list[tuple[float, int, bool, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.ledger = InFlightLedger(1000.0, clock=lambda: self.now)
        self.audit = InFlightAudit(self.ledger, self, clock=lambda: self.now)
        for address in ADDRESSES:
            self.ledger.counters(address)
        self.schedule_audit()

    # -- time -----------------------------------------------------------------------------------------------------

    def after(self, seconds: float, event: Callable[[], None], *, picker: bool = False) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), picker, event))

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self.events and self.events[0][0] <= until:
            when, _, picker, event = heapq.heappop(self.events)
            self.now = max(self.now, when)
            if picker and self.now < self.held_up_until:
                heapq.heappush(self.events, (self.held_up_until, next(self.numbers), True, event))
                continue
            event()
        self.now = until

    # -- audits ---------------------------------------------------------------------------------------------------

    def schedule_audit(self) -> None:
        due = self.now + INTERVAL
        self.after(INTERVAL, lambda: self.begin(self.now - due), picker=True)

    def begin(self, late: float) -> None:
        self.audit.begin()
        asked = self.now

        def looked() -> None:
            counts = self.counts()
            self.after(0.01, lambda: self.finish(counts, max(late, self.now - asked)), picker=True)

        self.after(0.01, looked)

    def finish(self, counts: DataPlaneCounts, held_up: float) -> None:
        self.reports.append(self.audit.finish(counts, prompt=held_up < HELD_UP))
        self.schedule_audit()

    def counts(self) -> DataPlaneCounts:
        return DataPlaneCounts(dict.fromkeys(ADDRESSES, 0) | self.truth(), sum(not r.over for r in self.requests))

    def truth(self) -> Counter[str]:
        return Counter(r.at for r in self.requests if r.at)

    # -- requests -------------------------------------------------------------------------------------------------

    def decide(self, address: str, delay: float) -> None:
        request = Request(f"r{next(self.numbers)}", own=True, seen=self.now)
        self.ledger.place(request.id, address, 1, 1, self.now)
        self.requests.append(request)
        self.pending[request.id] = request
        self.after(delay, lambda: self.dispatch(request, address))

    @staticmethod
    def dispatch(request: Request, address: str) -> None:
        if not request.over:
            request.at = address

    def arrive(self, address: str) -> None:
        self.requests.append(Request(f"u{next(self.numbers)}", own=False, at=address))

    def retry(self, request: Request, address: str, delay: float, report: float | None) -> None:
        """An attempt fails; the next one follows, and the report of the first comes, or does not."""
        request.at = ""
        self.after(delay, lambda: self.dispatch(request, address))
        if report is not None:
            self.after(report, lambda: self.move(request, address), picker=True)

    def move(self, request: Request, address: str) -> None:
        self.ledger.move(request.id, address)

    def end(self, request: Request, report: float | None) -> None:
        last, request.at, request.over = request.at, "", True
        if report is not None:
            self.after(report, lambda: self.completed(request, last), picker=True)

    def completed(self, request: Request, address: str) -> None:
        self.pending.pop(request.id, None)
        if not self.ledger.release(request.id):
            self.ledger.release_adopted(address)

    def abandon(self, correlation_id: str) -> None:
        self.ledger.release(correlation_id)
        del self.pending[correlation_id]

    def running(self) -> list[Request]:
        return [request for request in self.requests if request.at]


class SoundWorld(RuleBasedStateMachine):
    """Every decision is dispatched and every end reported, if late, and the picker may be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(address=addresses, delay=dispatch_delays)
    def decide(self, address: str, delay: float) -> None:
        self.world.decide(address, delay)

    @precondition(lambda self: self.world.running())
    @rule(data=st.data(), report=report_delays)
    def end(self, data: st.DataObject, report: float) -> None:
        self.world.end(data.draw(st.sampled_from(self.world.running())), report)

    @rule(seconds=st.floats(0.01, 1.0))
    def pass_time(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.floats(0.25, 3.0))
    def hold_up(self, seconds: float) -> None:
        self.world.held_up_until = max(self.world.held_up_until, self.world.now + seconds)

    @invariant()
    def nothing_is_corrected(self) -> None:
        assert all(report.agreed for report in self.world.reports)
        assert not self.world.ledger.corrections
        assert {r.id for r in self.world.running()} <= self.world.pending.keys()


class AnyWorld(SoundWorld):
    """Reports are lost too, attempts fail, and requests run that we did not decide."""

    @initialize(found=st.lists(addresses, max_size=5))
    def start(self, found: list[str]) -> None:
        for address in found:
            self.world.arrive(address)

    @rule(address=addresses)
    def arrive(self, address: str) -> None:
        self.world.arrive(address)

    @rule(address=addresses)
    def decide_what_never_comes(self, address: str) -> None:
        self.world.decide(address, 0.0)
        self.world.requests[-1].over = True

    @precondition(lambda self: self.world.running())
    @rule(data=st.data())
    def end_unreported(self, data: st.DataObject) -> None:
        self.world.end(data.draw(st.sampled_from(self.world.running())), None)

    @precondition(lambda self: any(r.own for r in self.world.running()))
    @rule(data=st.data(), address=addresses, delay=st.floats(0.0, 0.25), report=st.none() | report_delays)
    def retry(self, data: st.DataObject, address: str, delay: float, report: float | None) -> None:
        own = [request for request in self.world.running() if request.own]
        self.world.retry(data.draw(st.sampled_from(own)), address, delay, report)

    @invariant()
    def nothing_is_corrected(self) -> None:
        """Here things are; but no count is ever below nothing."""
        ledger = self.world.ledger
        counts = [ledger.counters(address).requests for address in ADDRESSES]
        assert min(counts) >= 0
        assert sum(counts) == ledger.totals.requests
        placed = ledger.placed_until(self.world.now)
        for address, count in zip(ADDRESSES, counts, strict=True):
            assert count == placed.get(address, 0) + ledger.correction(address)

    def teardown(self) -> None:
        """Let everything arrive, then end what runs: the counts follow."""
        world = self.world
        world.advance(8.0)
        assert {a: world.ledger.counters(a).requests for a in ADDRESSES} == {a: world.truth()[a] for a in ADDRESSES}
        assert not any(world.reports[-1].drift.values())
        for request in world.running():
            world.end(request, 0.1)
        world.advance(8.0)
        totals = world.ledger.totals
        assert (totals.requests, totals.prompt_tokens, totals.total_tokens) == (0, 0, 0)
        assert (world.ledger.corrections, world.pending, world.audit.idle) == ({}, {}, True)


TestSoundWorld = SoundWorld.TestCase
TestSoundWorld.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyWorld = AnyWorld.TestCase
TestAnyWorld.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
