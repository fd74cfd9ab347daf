"""The auditor asks at once, regularly while anything is under way, hardly ever otherwise, and survives any answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from endpoint_picker.datalayer.ledger_auditor import AuditResult, LedgerAuditor
from endpoint_picker.requestcontrol.audit import AuditReport, DataPlaneCounts, InFlightAudit
from endpoint_picker.requestcontrol.ledger import InFlightLedger


class StopError(Exception):
    """Ends a run that would go on for ever."""


@dataclass
class Site:
    """A ledger, an Envoy that says *counts* or raises it, and a clock that sleeping moves."""

    counts_or_error: DataPlaneCounts | Exception | None = field(default_factory=lambda: DataPlaneCounts({"a": 0}))
    now: float = 50.0
    answer_seconds: float = 0.0
    oversleep_seconds: float = 0.0
    asked_at: list[float] = field(default_factory=list)
    results: list[AuditResult] = field(default_factory=list)
    reports: list[AuditReport | None] = field(default_factory=list)
    pending: Mapping[str, object] = field(default_factory=dict)
    stop_at: float = 0.0

    def __post_init__(self) -> None:
        self.ledger = InFlightLedger(clock=lambda: self.now)
        self.ledger.counters("a")
        self.auditor = LedgerAuditor(
            self,
            InFlightAudit(self.ledger, self, clock=lambda: self.now),
            clock=lambda: self.now,
            report=self.report,
            sleep=self.sleep,
        )

    def abandon(self, correlation_id: str) -> None:
        self.ledger.release(correlation_id)

    async def counts(self) -> DataPlaneCounts | None:
        self.asked_at.append(self.now)
        self.now += self.answer_seconds
        if isinstance(self.counts_or_error, Exception):
            raise self.counts_or_error
        return self.counts_or_error

    def report(self, result: AuditResult, report: AuditReport | None) -> None:
        self.results.append(result)
        self.reports.append(report)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self.oversleep_seconds
        if self.now >= self.stop_at:
            raise StopError

    def run(self, seconds: float) -> None:
        """Let it run for so long."""
        self.stop_at = self.now + seconds
        with pytest.raises(StopError):
            asyncio.run(self.auditor.run())


def test_it_asks_at_once_and_adopts_what_is_there() -> None:
    site = Site(DataPlaneCounts({"a": 3}, 3))
    site.run(0.1)
    assert (site.asked_at, site.results, site.ledger.totals.requests) == ([50.0], [AuditResult.DIFFERED], 3)


def test_it_asks_twice_a_second_while_anything_is_under_way() -> None:
    site = Site(DataPlaneCounts({"a": 1}, 1))
    site.ledger.place("1", "a", 1, 1, site.now)
    site.run(3.0)
    assert site.asked_at == [50.0, 50.5, 51.0, 51.5, 52.0, 52.5]
    assert set(site.results) == {AuditResult.AGREED}


def test_it_hardly_asks_while_nothing_is() -> None:
    site = Site()
    site.run(25.0)
    assert site.asked_at == [50.0, 60.0, 70.0]


def test_work_that_comes_is_audited_within_half_a_second() -> None:
    site = Site()
    site.run(2.0)
    site.ledger.place("1", "a", 1, 1, site.now)
    site.counts_or_error = DataPlaneCounts({"a": 1}, 1)
    site.run(1.0)
    assert site.asked_at == [50.0, 52.0, 52.5]


def test_it_keeps_asking_until_envoy_agrees_and_nothing_is_corrected() -> None:
    site = Site(DataPlaneCounts({"a": 1}, 1))
    site.run(3.0)
    assert len(site.asked_at) == 6
    site.counts_or_error = DataPlaneCounts({"a": 0}, 0)
    site.run(9.0)
    assert site.results[6:] == [AuditResult.AGREED, AuditResult.DIFFERED, AuditResult.AGREED]
    assert site.ledger.totals.requests == 0
    assert site.asked_at[6:] == [53.0, 53.5, 54.0]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        pytest.param(None, AuditResult.UNAVAILABLE, id="no-answer"),
        pytest.param(ValueError("garbage"), AuditResult.UNREADABLE, id="garbage"),
        pytest.param(ZeroDivisionError(), AuditResult.FAILED, id="a-defect"),
    ],
)
def test_without_a_good_answer_the_ledger_stays_as_it_is(answer: Exception | None, result: AuditResult) -> None:
    site = Site(answer)
    site.ledger.place("1", "a", 1, 1, site.now)
    site.run(3.0)
    assert set(site.results) == {result}
    assert site.reports == [None] * 6
    assert site.ledger.address_of("1") == "a"


@pytest.mark.parametrize(
    ("answer_seconds", "oversleep_seconds", "kept"),
    [
        pytest.param(0.0, 0.0, False, id="in-time"),
        pytest.param(0.3, 0.0, True, id="a-slow-answer"),
        pytest.param(0.0, 0.3, True, id="a-late-question"),
    ],
)
def test_what_was_held_up_takes_nothing_for_lost(answer_seconds: float, oversleep_seconds: float, kept: bool) -> None:
    site = Site(answer_seconds=answer_seconds, oversleep_seconds=oversleep_seconds)
    site.ledger.place("1", "a", 1, 1, site.now)
    site.run(6.0)
    assert (site.ledger.address_of("1") == "a") is kept
