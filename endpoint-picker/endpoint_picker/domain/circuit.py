"""The circuit of one endpoint: what attempts and metrics pages say goes in, whether requests may go there comes out.

    closed ──── failures ───▶ open ──── time ────▶ half-open ──── probes answered ───▶ closed
       ▲                       │ ▲                     │
       └── rest of an overload ┘ └─── probe failed ────┘

Open, the endpoint is left alone. Half-open, single requests probe it; only what becomes of them decides. It takes no
clock and draws no luck of its own: *now* is monotonic seconds and never goes back.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from endpoint_picker.domain.completion import Attempt, AttemptVerdict

_LEAST_OPEN: Final = 0.75
"""Least share of its time that a circuit stays open; chance decides on the rest, so that not all come back at once."""
_MOST_SUCCESSES: Final = 3
_MOST_PROBES: Final = 2
_LOST_PAGES: Final = 2.0
_LATE_PAGE: Final = 0.4


class CircuitState(StrEnum):
    """Whether requests go to the endpoint."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class CircuitReason(StrEnum):
    """Why a circuit opened."""

    FAILURES = "failures"
    """Several attempts in a row failed."""
    ERROR_SHARE = "error-share"
    """Too large a share of the recent attempts failed."""
    SILENT = "silent"
    """An attempt was given up, and nothing had come from the endpoint to any request meanwhile."""
    UNREACHABLE = "unreachable"
    """A connection was refused, or its metrics page cannot be had."""
    OVERLOADED = "overloaded"
    """It asked to be left alone for a moment, or refused several requests in a row because there were too many."""


# What nearly all circuits and attempts are: names of their own are found sooner than members of an enumeration.
_CLOSED: Final = CircuitState.CLOSED
_ANSWERED: Final = AttemptVerdict.ANSWERED


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a circuit opens and closes; ValueError where a part makes no sense.

    Attributes:
        failures_in_a_row: So many failed attempts open it.
        error_share: So large a share of the recent attempts, above 0, opens it; more than 1: never.
        least_attempts: Fewer recent attempts make no share.
        window_attempts: Most attempts that count as recent.
        window_seconds: Attempts older than this are not recent.
        open_seconds: First time out; each further opening doubles it.
        longest_open_seconds: Bound on that, and on what an overloaded endpoint may ask for.
        healthy_seconds: Closed for so long, the endpoint begins with the first time out again.
        probe_seconds: A probe of which nothing was heard for so long makes room for the next.
    """

    failures_in_a_row: int = 3
    error_share: float = 0.25
    least_attempts: int = 10
    window_attempts: int = 40
    window_seconds: float = 30.0
    open_seconds: float = 1.0
    longest_open_seconds: float = 30.0
    healthy_seconds: float = 60.0
    probe_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.failures_in_a_row < 1 or not 1 <= self.least_attempts <= self.window_attempts:
            msg = "failures_in_a_row and least_attempts must be at least 1, and window_attempts not below the latter"
            raise ValueError(msg)
        if not self.error_share > 0 or not 0 < self.open_seconds <= self.longest_open_seconds:
            msg = "error_share and open_seconds must be positive, and longest_open_seconds not below the latter"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class PoolCircuits:
    """The circuits of one pool.

    Attributes:
        states: State of each address.
        kept_out: Addresses that get no requests now.
    """

    states: Mapping[str, CircuitState]
    kept_out: frozenset[str]


class Circuit:
    """One endpoint's circuit; closed at first.

    It closes after as many answered probes as it has opened times, up to three: a first failure is soon forgiven, one
    that keeps coming back is not. One probe at a time is let through, two after the first was answered.

    Args:
        settings: When it opens and closes.
        now: When it begins.
        luck: Draws a number from 0 to 1 at each opening; the greater, the longer.

    Attributes:
        state: Present state; `refresh` brings it up to date.
        reason: Why it opened last; None if it never did.
        since: When the present state began.
        until: When it will be half-open, or for an overloaded endpoint closed; meaningful while open.
        openings: How often it opened without a healthy time between.
    """

    __slots__ = (
        "_answered_at",
        "_answered_since_opening",
        "_closed_at",
        "_failures",
        "_in_a_row",
        "_lost_pages",
        "_luck",
        "_mistrusts_pages",
        "_probes",
        "_recent",
        "_settings",
        "_successes",
        "_window_seconds",
        "openings",
        "reason",
        "since",
        "state",
        "until",
    )

    def __init__(self, settings: CircuitSettings, *, now: float, luck: Callable[[], float]) -> None:
        self._settings = settings
        self._luck = luck
        self.state = CircuitState.CLOSED
        self.reason: CircuitReason | None = None
        self.since = self.until = self._closed_at = now
        self.openings = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=settings.window_attempts)
        self._window_seconds = settings.window_seconds
        self._failures = 0
        self._in_a_row = 0
        self._answered_at = float("-inf")
        self._answered_since_opening = False
        self._probes: list[tuple[str, float]] = []
        self._successes = 0
        self._lost_pages = 0.0
        self._mistrusts_pages = False

    # -- what requests may do ---------------------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Do what time does: end the time out, and forget probes that nothing was heard of."""
        if self.state is CircuitState.OPEN and now >= self.until:
            overloaded = self.reason is CircuitReason.OVERLOADED
            self._enter(CircuitState.CLOSED if overloaded else CircuitState.HALF_OPEN, now)
        elif self._probes:
            self._probes = [probe for probe in self._probes if probe[1] > now]

    @property
    def admits(self) -> bool:
        """Whether the next request may go to the endpoint, as of the last `refresh`."""
        if self.state is CircuitState.HALF_OPEN:
            return len(self._probes) < (_MOST_PROBES if self._successes else 1)
        return self.state is CircuitState.CLOSED

    def reserve(self, request_id: str, now: float) -> None:
        """Make a request that was sent to the endpoint a probe, if the circuit is half-open and has room for one."""
        if self.state is CircuitState.HALF_OPEN and self.admits:
            self._probes.append((request_id, now + self._settings.probe_seconds))

    @property
    def dead(self) -> bool:
        """Whether, open or half-open, the endpoint is believed to answer nothing, rather than too little."""
        if self.state is CircuitState.CLOSED or self.reason is CircuitReason.OVERLOADED:
            return False
        gone = self.reason in {CircuitReason.UNREACHABLE, CircuitReason.SILENT}
        return gone or (self.openings > 1 and not self._answered_since_opening)

    @property
    def badness(self) -> tuple[bool, bool, int, float]:
        """Orders endpoints from the least bad to the worst."""
        unreachable = self.dead and self.reason is CircuitReason.UNREACHABLE
        return unreachable, self.dead, self.openings, self.error_share

    @property
    def attempts(self) -> int:
        """Recent attempts that answered or failed, as of the last one."""
        return len(self._recent)

    @property
    def error_share(self) -> float:
        """Share of them that failed."""
        return self._failures / len(self._recent) if self._recent else 0.0

    @property
    def misses_pages(self) -> bool:
        """Whether metrics pages could not be had lately, so that one that can is news."""
        return self._lost_pages > 0.0

    @property
    def probes(self) -> int:
        """Requests that probe the endpoint now."""
        return len(self._probes)

    # -- what is learned --------------------------------------------------------------------------------------------

    def attempted(self, attempt: Attempt, now: float) -> None:
        """Learn from an attempt at the endpoint, ended or live.

        A live one counts as answered if its first byte was seen, so it is to be told of once.
        """
        if self.state is not _CLOSED:
            self.refresh(now)
        if self.state is _CLOSED:
            self._judge(attempt, now)
        elif self.state is CircuitState.HALF_OPEN:
            place = next((i for i, probe in enumerate(self._probes) if probe[0] == attempt.request_id), None)
            if place is not None:
                self._judge_probe(attempt, place, now)

    def page_failed(self, now: float, *, late: bool) -> None:
        """Learn that the metrics page could not be had: refused, or late, which may be this process's own fault.

        While pages fail, requests probe as seldom as possible. If one of them is answered all the same, the guess about
        where the page is was wrong, and it counts for nothing until there is one.
        """
        self.refresh(now)
        self._lost_pages = min(_LOST_PAGES, self._lost_pages + (_LATE_PAGE if late else 1.0))
        if self._lost_pages < _LOST_PAGES or self._mistrusts_pages or self.state is CircuitState.HALF_OPEN:
            return
        if self.state is _CLOSED or self.reason is CircuitReason.OVERLOADED:
            self._open(CircuitReason.UNREACHABLE, now)
        self.reason = CircuitReason.UNREACHABLE
        self.until = max(self.until, self.since + _LEAST_OPEN * self._settings.longest_open_seconds)

    def page_answered(self, now: float) -> None:
        """Learn that there is a metrics page, or an answer in its place, so that something listens there (again)."""
        were_lost = self._lost_pages >= _LOST_PAGES
        self._lost_pages, self._mistrusts_pages = 0.0, False
        if were_lost and self.state is CircuitState.OPEN and self.reason is CircuitReason.UNREACHABLE:
            self._enter(CircuitState.HALF_OPEN, now)

    # -- transitions ------------------------------------------------------------------------------------------------

    def _judge(self, attempt: Attempt, now: float) -> None:
        verdict = attempt.verdict
        if verdict is _ANSWERED:
            self._in_a_row, self._answered_at = 0, now
            if not attempt.live:
                self._remember(now, failed=False)
            return
        match verdict:
            case AttemptVerdict.FAILED:
                self._in_a_row += 1
                self._remember(now, failed=True)
                reason = self._reason_to_open(attempt, now)
                if reason is not None:
                    self._open(reason, now)
            case AttemptVerdict.OVERLOADED:
                self._in_a_row += 1
                if attempt.retry_after_seconds is not None or self._in_a_row >= self._settings.failures_in_a_row:
                    self._rest(attempt, now)
            case _:
                pass

    def _judge_probe(self, attempt: Attempt, place: int, now: float) -> None:
        verdict = attempt.verdict
        if verdict is AttemptVerdict.NOTHING and attempt.live:
            self._probes[place] = (attempt.request_id, now + self._settings.probe_seconds)
            return
        del self._probes[place]
        match verdict:
            case AttemptVerdict.ANSWERED:
                self._answered_at, self._answered_since_opening = now, True
                self._successes += 1
                if self._successes >= min(self.openings, _MOST_SUCCESSES):
                    self._close(now)
            case AttemptVerdict.FAILED:
                self._open(self._reason_to_stay_open(attempt), now)
            case AttemptVerdict.OVERLOADED:
                self._close(now)
                self._rest(attempt, now)
            case AttemptVerdict.NOTHING:
                pass

    def _reason_to_open(self, attempt: Attempt, now: float) -> CircuitReason | None:
        settings = self._settings
        if attempt.refused:
            return CircuitReason.UNREACHABLE
        if attempt.timed_out and attempt.duration_seconds and self._answered_at <= now - attempt.duration_seconds:
            return CircuitReason.SILENT
        if self._in_a_row >= settings.failures_in_a_row:
            return CircuitReason.FAILURES
        if len(self._recent) >= settings.least_attempts and self.error_share >= settings.error_share:
            return CircuitReason.ERROR_SHARE
        return None

    def _reason_to_stay_open(self, attempt: Attempt) -> CircuitReason:
        if attempt.refused:
            return CircuitReason.UNREACHABLE
        if attempt.timed_out:
            return CircuitReason.SILENT
        return CircuitReason.ERROR_SHARE if self.reason is CircuitReason.ERROR_SHARE else CircuitReason.FAILURES

    def _remember(self, now: float, *, failed: bool) -> None:
        recent = self._recent
        if len(recent) == recent.maxlen:
            self._failures -= recent[0][1]
        recent.append((now, failed))
        self._failures += failed
        oldest = now - self._window_seconds
        while recent[0][0] <= oldest:
            self._failures -= recent.popleft()[1]

    def _open(self, reason: CircuitReason, now: float) -> None:
        settings = self._settings
        if self.state is CircuitState.CLOSED and now - self._closed_at >= settings.healthy_seconds:
            self.openings = 0
        if not self.openings:
            self._answered_since_opening = False
        self.openings += 1
        seconds = min(settings.longest_open_seconds, settings.open_seconds * 2.0 ** min(self.openings - 1, 30))
        self.until = now + seconds * (_LEAST_OPEN + (1 - _LEAST_OPEN) * self._luck())
        self.reason = reason
        self._enter(CircuitState.OPEN, now)

    def _rest(self, attempt: Attempt, now: float) -> None:
        """Leave an overloaded endpoint alone, as long as it asks for; that is no opening to be held against it."""
        self._answered_at, self._in_a_row = now, 0
        asked = attempt.retry_after_seconds
        seconds = self._settings.open_seconds if asked is None else asked
        if seconds > 0:
            self.until = now + min(seconds, self._settings.longest_open_seconds)
            self.reason = CircuitReason.OVERLOADED
            self._enter(CircuitState.OPEN, now)

    def _close(self, now: float) -> None:
        self._mistrusts_pages = self._lost_pages >= _LOST_PAGES
        self._recent.clear()
        self._failures = self._in_a_row = 0
        self._closed_at = now
        self._enter(CircuitState.CLOSED, now)

    def _enter(self, state: CircuitState, now: float) -> None:
        self.state, self.since = state, now
        self._probes, self._successes = [], 0
