"""Compares the ledger with what the data plane counts itself, and corrects it where a difference is no matter of time.

Two differences are: a request that was decided and is not dispatched yet, and one that has ended and is not reported
yet. Both make the ledger count more than the data plane has. So

- what the data plane has *beyond* the ledger it has for another reason: the requests of a picker that was here
  before, or of none. They are adopted: at once after the start, later if two audits in a row found them, because a
  retry is at its next endpoint a moment before its report is here;
- what the ledger has *beyond* the data plane is lost only as far as it came well before one audit and is still there
  well after it. Of these the data plane had every one that is not over.

Nothing here raises or lowers a count on the word of a single late or strange page: a count that is missing changes
nothing, and a process that was itself held up does not take requests for lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from endpoint_picker.requestcontrol.ledger import InFlightLedger, Known
from endpoint_picker.requestcontrol.open_requests import PendingRequest
from endpoint_picker.requestcontrol.ports import Clock

_DISPATCH_SECONDS: Final = 0.75
"""From a decision to its dispatch, and from a failed attempt to the next one, whose back-off is 0.25 s at most."""
_REPORT_SECONDS: Final = 0.3
"""From a request's end to its log entry."""


@dataclass(frozen=True, slots=True)
class DataPlaneCounts:
    """What the data plane has under way at one moment.

    Attributes:
        endpoints: Requests at each endpoint that it lists, those that wait for a connection to it included.
        requests: Requests of clients, wherever they are.
    """

    endpoints: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What one audit found and did.

    Attributes:
        drift: By endpoint, what the data plane had beyond the ledger, negative if less; 0 where time explains it.
        adopted: Requests added.
        dropped: Requests taken away.
        corrections: By endpoint, what audits have added so far to the requests placed; 0 left out.
    """

    drift: Mapping[str, int]
    adopted: int = 0
    dropped: int = 0
    corrections: Mapping[str, int] = field(default_factory=dict)

    @property
    def agreed(self) -> bool:
        """Whether there was no difference but such as time explains."""
        return not any(self.drift.values())


class RequestMemory(Protocol):
    """Everything that is remembered of requests until their end."""

    @property
    def pending(self) -> Mapping[str, PendingRequest]:
        """Requests by correlation id, those seen longest ago first."""

    def abandon(self, correlation_id: str) -> None:
        """Forget a request that will have no end."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """One answer of the data plane and when it was asked for and had."""

    counts: DataPlaneCounts
    asked_at: float
    answered_at: float


class InFlightAudit:
    """Audits one ledger; each audit is a `begin`, a look at the data plane, and a `finish` with what it said.

    Args:
        ledger: What is audited and corrected.
        requests: What is remembered of requests beside it; it forgets those that the data plane no longer has.
        clock: Monotonic seconds; that of the ledger.
    """

    def __init__(self, ledger: InFlightLedger, requests: RequestMemory, *, clock: Clock) -> None:
        self._ledger = ledger
        self._requests = requests
        self._clock = clock
        self._asked_at = 0.0
        self._before: Mapping[str, Known] = {}
        self._last: _Sample | None = None
        self._lacking: Mapping[str, int] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing is corrected, as far as is known."""
        return not self._ledger.totals.requests and not self._ledger.corrections and not self._requests.pending

    def begin(self) -> None:
        """Note what the ledger says at the moment the data plane is asked."""
        self._asked_at = self._clock()
        self._before = self._ledger.known()

    def finish(self, counts: DataPlaneCounts, *, prompt: bool = True) -> AuditReport:
        """Correct the ledger by *counts*.

        Not *prompt*: this process or the data plane was held up, so requests may be neither dispatched nor reported
        yet although time has passed. Then nothing is taken for lost.
        """
        ledger, now, last = self._ledger, self._clock(), self._last
        known = ledger.known()
        dropped: Mapping[str, int] = {}
        if last is not None and prompt and now - last.answered_at >= _REPORT_SECONDS:
            latest = last.asked_at - _DISPATCH_SECONDS
            dropped = self._drop_lost(last.counts, known, latest)
            self._forget_lost(last.counts, latest)
        missing = self._missing(counts, known, dropped)
        adopted = self._adopt(missing, at_once=last is None)
        listed = counts.endpoints.keys() & known.keys()
        ledger.confirm(listed, now)
        self._last = _Sample(counts, self._asked_at, now)
        drift = {address: missing.get(address, 0) - dropped.get(address, 0) for address in listed}
        return AuditReport(drift, adopted, sum(dropped.values()), ledger.corrections)

    def _missing(
        self, counts: DataPlaneCounts, known: Mapping[str, Known], dropped: Mapping[str, int]
    ) -> dict[str, int]:
        """Return by endpoint what the data plane has and the ledger had at no moment since it was asked."""
        missing: dict[str, int] = {}
        for address, has in counts.endpoints.items():
            now = known.get(address)
            if now is None:
                continue
            before = self._before.get(address, Known(0, 0))
            most = max(now.requests, before.requests + now.begun - before.begun) - dropped.get(address, 0)
            if has > most:
                missing[address] = has - most
        return missing

    def _adopt(self, missing: Mapping[str, int], *, at_once: bool) -> int:
        """Add what is missing, or else what was at the last audit too; return how many requests."""
        adopted = 0
        lacking: dict[str, int] = {}
        for address, found in missing.items():
            certain = found if at_once else min(found, self._lacking.get(address, 0))
            self._ledger.correct(address, certain)
            adopted += certain
            lacking[address] = found - certain
        self._lacking = lacking
        return adopted

    def _drop_lost(self, counts: DataPlaneCounts, known: Mapping[str, Known], latest: float) -> dict[str, int]:
        """Take away what came until *latest* and the data plane did not have later; return how many by endpoint."""
        ledger, has = self._ledger, counts.endpoints
        suspects = [a for a, k in known.items() if a in has and (k.requests > has[a] or ledger.correction(a) < 0)]
        if not suspects:
            return {}
        dropped: dict[str, int] = {}
        placed = ledger.placed_until(latest)
        for address in suspects:
            old = placed.get(address, 0)
            surplus = old + ledger.correction(address) - has[address]
            if surplus > 0:
                ledger.correct(address, -surplus)
                dropped[address] = surplus
            if old and -ledger.correction(address) >= old:
                ledger.drop_lost(address, latest)  # all of them, so there is no doubt which
        return dropped

    def _forget_lost(self, counts: DataPlaneCounts, latest: float) -> None:
        """Forget requests that the data plane does not have, the oldest of those that the ledger does not have."""
        pending = self._requests.pending
        if len(pending) <= counts.requests:
            return
        old = [c for c, r in pending.items() if r.stream_id and (r.renewed or r.seen <= latest)]
        surplus = len(old) - counts.requests
        if surplus > 0:
            lost = list(islice((c for c in old if self._ledger.address_of(c) is None), surplus))
            for correlation_id in lost:
                self._requests.abandon(correlation_id)
