"""The in-flight ledger: this picker's own unfinished work, per endpoint, exact at every moment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from endpoint_picker.domain.endpoint import InFlight
from endpoint_picker.requestcontrol.in_flight_counters import Counters, Totals
from endpoint_picker.requestcontrol.ports import Clock


@dataclass(slots=True)
class _Placement:
    """One unfinished request; *prompt_tokens* drops to 0 at the first token.

    Attributes:
        placed_at: When it came to the endpoint it is counted on.
        seen_at: When it was last known to be under way.
        elsewhere: Another data plane serves it than the audited one.
    """

    address: str
    prompt_tokens: int
    total_tokens: int
    placed_at: float
    seen_at: float
    elsewhere: bool


class Known(NamedTuple):
    """What the ledger knows of one endpoint's share in the audited data plane.

    Attributes:
        requests: In flight now.
        begun: Those that came since the endpoint has counters, other data planes' included.
    """

    requests: int
    begun: int


class InFlightLedger:
    """Counts every placed request once, on the endpoint that serves it, until it is released once.

    Each operation on a request takes constant time. A request whose end is never reported is released when the time
    limit has passed, so a lost access-log entry blocks nothing for good. An operation on a request that is not in the
    ledger (released before, expired, never placed) changes no counter and is counted in `ignored`.

    What the data plane itself counts can correct an endpoint's requests, up or down. A correction needs no request to
    be pointed at, so no guess can be wrong: ends are only ever reported of requests that ran, and each lowers the
    count by one, whether it is in the ledger or was added by a correction (*adopted*).

    The prefill backlog of an endpoint is a guess that needs no word from it: each placed prompt adds its tokens, the
    endpoint computes them at an assumed pace, and one without requests has none left.

    Written by the director, by settlement and by the audit, in one thread.

    Args:
        time_limit_seconds: How long a request may stay without being renewed; ValueError unless positive. An adopted
            one, how long the data plane may be silent about its endpoint.
        clock: What drains the prefill backlog; without one, only the end of the last request does.
        prefill_tokens_per_second: Pace at which an endpoint computes prompts; ValueError unless positive. The default
            lies between what small and large GPUs do. Rather too low than too high: a fifth of the true pace
            still balances better than round robin, twice the true pace forgets the backlog too soon.
        adopted_tokens: Tokens an adopted request counts for; its prompt counts as computed.
    """

    __slots__ = (
        "_adopted_tokens",
        "_clock",
        "_counters",
        "_expired",
        "_ignored",
        "_placements",
        "_prefill_tokens_per_second",
        "_present",
        "_time_limit_seconds",
        "_totals",
    )

    def __init__(
        self,
        time_limit_seconds: float = 60.0,
        *,
        clock: Clock = lambda: 0.0,
        prefill_tokens_per_second: float = 8000.0,
        adopted_tokens: int = 0,
    ) -> None:
        if time_limit_seconds <= 0.0:
            msg = f"time_limit_seconds must be positive, got {time_limit_seconds}"
            raise ValueError(msg)
        if not prefill_tokens_per_second > 0.0:
            msg = f"prefill_tokens_per_second must be positive, got {prefill_tokens_per_second}"
            raise ValueError(msg)
        self._time_limit_seconds = time_limit_seconds
        self._clock = clock
        self._prefill_tokens_per_second = prefill_tokens_per_second
        self._adopted_tokens = adopted_tokens
        self._placements: dict[str, _Placement] = {}  # by the time they were last seen
        self._counters: dict[str, Counters] = {}
        self._present: set[str] = set()
        self._totals = Totals(self._counters.values())
        self._ignored = 0
        self._expired = 0

    @property
    def totals(self) -> InFlight:
        """Live sums over all endpoints."""
        return self._totals

    @property
    def ignored(self) -> int:
        """Operations that found no such request, or placed one that was there, since the start."""
        return self._ignored

    @property
    def expired(self) -> int:
        """Requests released by the time limit since the start."""
        return self._expired

    @property
    def addresses(self) -> tuple[str, ...]:
        """Endpoints that have counters: those asked for and not forgotten, and those with unfinished requests."""
        return tuple(self._counters)

    def counters(self, address: str) -> InFlight:
        """Return the live counters of an endpoint: the same object until the endpoint is forgotten and idle."""
        self._present.add(address)
        return self._counters_of(address)

    def address_of(self, correlation_id: str) -> str | None:
        """Return the endpoint that a request is counted on; None if it is not in the ledger."""
        placement = self._placements.get(correlation_id)
        return placement.address if placement else None

    def place(
        self,
        correlation_id: str,
        address: str,
        prompt_tokens: int,
        expected_output_tokens: int,
        now: float,
        *,
        elsewhere: bool = False,
    ) -> bool:
        """Count a request on an endpoint; return whether it is new, since placing it again changes nothing.

        *now* never goes back; negative tokens count as 0. *elsewhere*: no audited data plane will serve it.
        """
        if correlation_id in self._placements:
            self._ignored += 1
            return False
        prompt_tokens = max(0, prompt_tokens)
        total_tokens = prompt_tokens + max(0, expected_output_tokens)
        placement = _Placement(address, prompt_tokens, total_tokens, now, now, elsewhere)
        self._placements[correlation_id] = placement
        self._add(placement).fill_backlog(prompt_tokens)
        return True

    def first_token(self, correlation_id: str) -> bool:
        """Note that the prompt has been computed; return whether that is news."""
        placement = self._placements.get(correlation_id)
        if placement is None:
            self._ignored += 1
            return False
        prompt_tokens = placement.prompt_tokens
        placement.prompt_tokens = 0
        self._counters[placement.address].prompt_tokens -= prompt_tokens
        self._totals.prompt_tokens -= prompt_tokens
        return prompt_tokens > 0

    def move(self, correlation_id: str, address: str) -> bool:
        """Count a request on another endpoint, which serves it instead; return whether that is news.

        It takes its prompt out of the one backlog and into the other, but no more than the first has left.
        """
        placement = self._placements.get(correlation_id)
        if placement is None:
            self._ignored += 1
            return False
        if placement.address == address:
            return False
        before = self._counters[placement.address]
        prefill_tokens = min(placement.prompt_tokens, before.prefill_backlog_tokens)
        before.fill_backlog(-prefill_tokens)
        self._subtract(placement)
        placement.address = address
        placement.placed_at = max(placement.placed_at, self._clock())
        self._add(placement).fill_backlog(prefill_tokens)
        return True

    def release(self, correlation_id: str) -> bool:
        """Take a finished request out; return whether it was there, which is so exactly once."""
        placement = self._placements.pop(correlation_id, None)
        if placement is None:
            self._ignored += 1
            return False
        self._subtract(placement)
        return True

    def renew(self, correlation_id: str, now: float) -> bool:
        """Give a request that is known to be under way another time limit; return whether it is in the ledger."""
        placement = self._placements.pop(correlation_id, None)
        if placement is None:
            return False
        placement.seen_at = now
        self._placements[correlation_id] = placement
        return True

    def expire(self, now: float) -> int:
        """Release what was last seen the time limit or longer ago; return how many requests that were.

        Takes time in proportion to what it releases, and to the endpoints. *now* is of the clock that `place` was
        given. A request that a correction already took away is not counted down a second time.
        """
        latest = now - self._time_limit_seconds
        overdue: list[str] = []
        for correlation_id, placement in self._placements.items():
            if placement.seen_at > latest:
                break
            overdue.append(correlation_id)
        for correlation_id in overdue:
            self._drop(correlation_id)
        expired = len(overdue)
        for address, correction in self.corrections.items():
            if correction > 0 and self._counters[address].confirmed_at <= latest:
                self.correct(address, -correction)
                expired += correction
        self._expired += expired
        return expired

    def forget(self, address: str) -> None:
        """Drop the counters of an endpoint that has left, at once or when its last request ends."""
        self._present.discard(address)
        counters = self._counters.get(address)
        if counters is not None:
            self._drop_if_gone(address, counters)

    # -- what audits need -------------------------------------------------------------------------------------------

    def known(self) -> dict[str, Known]:
        """Return what is known of every endpoint, by address."""
        return {address: Known(c.requests - c.elsewhere, c.begun) for address, c in self._counters.items()}

    def placed_until(self, latest: float) -> dict[str, int]:
        """Return by address how many requests of the audited data plane came to it no later than *latest*.

        Takes time in proportion to the requests in the ledger.
        """
        placed: dict[str, int] = {}
        for placement in self._placements.values():
            if placement.placed_at <= latest and not placement.elsewhere:
                placed[placement.address] = placed.get(placement.address, 0) + 1
        return placed

    @property
    def corrections(self) -> Mapping[str, int]:
        """By address, what audits have added to the requests placed, or taken away if negative; never 0."""
        return {address: c.correction for address, c in self._counters.items() if c.correction}

    def correction(self, address: str) -> int:
        """Return the correction of one endpoint, 0 for an unknown one."""
        counters = self._counters.get(address)
        return counters.correction if counters else 0

    def confirm(self, addresses: Iterable[str], now: float) -> None:
        """Note that the data plane has told of these endpoints."""
        for address in addresses:
            counters = self._counters.get(address)
            if counters is not None:
                counters.confirmed_at = now

    def correct(self, address: str, by: int) -> None:
        """Count *by* requests more on an endpoint, or fewer if negative, down to 0; an unknown one stays unknown."""
        counters = self._counters.get(address)
        if counters is None:
            return
        by = max(by, -counters.requests)
        adopted = max(0, counters.correction)
        counters.correction += by
        tokens = (max(0, counters.correction) - adopted) * self._adopted_tokens
        for sums in (counters, self._totals):
            sums.requests += by
            sums.total_tokens += tokens
        if not counters.requests:
            self._emptied(address, counters)

    def release_adopted(self, address: str) -> bool:
        """Count one adopted request less on an endpoint; return whether there was one."""
        if self.correction(address) <= 0:
            return False
        self.correct(address, -1)
        return True

    def drop_lost(self, address: str, latest: float) -> int:
        """Take out the requests that came to an endpoint no later than *latest*, at most as many as were counted down.

        Returns how many there were; the endpoint's count stays. To be called when all of them are known to be over.
        """
        lost = [
            correlation_id
            for correlation_id, placement in self._placements.items()
            if placement.address == address and placement.placed_at <= latest and not placement.elsewhere
        ][: max(0, -self.correction(address))]
        for correlation_id in lost:
            self._drop(correlation_id)
        return len(lost)

    def _drop(self, correlation_id: str) -> None:
        """Take out a request without an end; if a correction has counted it down, the count stays."""
        placement = self._placements.pop(correlation_id)
        if self.correction(placement.address) < 0:
            self.correct(placement.address, 1)
        self._subtract(placement)

    # -- sums -------------------------------------------------------------------------------------------------------

    def _counters_of(self, address: str) -> Counters:
        counters = self._counters.get(address)
        if counters is None:
            counters = self._counters[address] = Counters(self._clock, self._prefill_tokens_per_second)
        return counters

    def _add(self, placement: _Placement) -> Counters:
        counters, totals = self._counters_of(placement.address), self._totals
        counters.requests += 1
        counters.begun += 1
        counters.prompt_tokens += placement.prompt_tokens
        counters.total_tokens += placement.total_tokens
        totals.requests += 1
        totals.prompt_tokens += placement.prompt_tokens
        totals.total_tokens += placement.total_tokens
        if placement.elsewhere:
            counters.elsewhere += 1
        return counters

    def _subtract(self, placement: _Placement) -> None:
        counters, totals = self._counters[placement.address], self._totals
        counters.requests -= 1
        counters.prompt_tokens -= placement.prompt_tokens
        counters.total_tokens -= placement.total_tokens
        totals.requests -= 1
        totals.prompt_tokens -= placement.prompt_tokens
        totals.total_tokens -= placement.total_tokens
        if placement.elsewhere:
            counters.elsewhere -= 1
        if counters.requests <= 0:
            self._emptied(placement.address, counters)

    def _emptied(self, address: str, counters: Counters) -> None:
        if counters.requests < 0:
            # one that was taken for lost has ended after all
            counters.correction -= counters.requests
            self._totals.requests -= counters.requests
            counters.requests = 0
        counters.empty_backlog()
        self._drop_if_gone(address, counters)

    def _drop_if_gone(self, address: str, counters: Counters) -> None:
        if not counters.requests and not counters.correction and address not in self._present:
            del self._counters[address]
