"""Audits the in-flight ledger by Envoy's own counts: at the start, regularly while anything is under way."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, Protocol

from endpoint_picker.requestcontrol.audit import AuditReport, DataPlaneCounts, InFlightAudit
from endpoint_picker.requestcontrol.ports import Clock

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 10.0
_HELD_UP_SECONDS: Final = 0.2


class AuditResult(StrEnum):
    """How an audit went."""

    AGREED = "agreed"
    DIFFERED = "differed"
    UNAVAILABLE = "unavailable"
    UNREADABLE = "unreadable"
    FAILED = "failed"


class CountsSource(Protocol):
    """The part of Envoy's admin interface that is needed here."""

    async def counts(self) -> DataPlaneCounts | None:
        """Return what Envoy has in flight, None when it does not say; ValueError when it cannot be understood."""


class LedgerAuditor:
    """Runs the audits.

    Fails open: an Envoy that does not answer, answers late or with something else leaves the ledger as it is.

    Args:
        source: Envoy's counts.
        audit: Compares and corrects.
        clock: Monotonic seconds.
        report: Hears of every audit; without a report of its own if there was nothing to compare with.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        source: CountsSource,
        audit: InFlightAudit,
        *,
        clock: Clock,
        report: Callable[[AuditResult, AuditReport | None], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._audit = audit
        self._clock = clock
        self._report = report
        self._sleep = sleep
        self._agreed = False
        self._audited_at = 0.0

    async def run(self) -> None:
        """Audit for ever: twice a second, hardly ever while nothing is under way and Envoy agrees."""
        late_seconds = 0.0
        while True:
            if not (self._agreed and self._audit.idle) or self._clock() - self._audited_at >= _IDLE_SECONDS:
                result, report = await self.audit(late_seconds)
                self._agreed, self._audited_at = result is AuditResult.AGREED, self._clock()
                self._report(result, report)
            due = self._clock() + _INTERVAL_SECONDS
            await self._sleep(_INTERVAL_SECONDS)
            late_seconds = self._clock() - due

    async def audit(self, late_seconds: float = 0.0) -> tuple[AuditResult, AuditReport | None]:
        """Audit once; *late_seconds* is how long this process was held up before."""
        asked_at = self._clock()
        try:
            self._audit.begin()
            try:
                counts = await self._source.counts()
            except ValueError:
                return AuditResult.UNREADABLE, None
            if counts is None:
                return AuditResult.UNAVAILABLE, None
            held_up = max(late_seconds, self._clock() - asked_at)
            report = self._audit.finish(counts, prompt=held_up < _HELD_UP_SECONDS)
        except Exception:  # an audit is the unit that ends here; the ledger works without
            logger.exception("the in-flight ledger could not be audited")
            return AuditResult.FAILED, None
        if report.adopted or report.dropped:
            logger.info("in-flight counts corrected", extra={"adopted": report.adopted, "dropped": report.dropped})
        return (AuditResult.AGREED if report.agreed else AuditResult.DIFFERED), report
