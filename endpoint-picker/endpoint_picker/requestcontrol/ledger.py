"""The in-flight ledger: this picker's own unfinished work, per endpoint, exact at every moment."""

from collections.abc import Iterable
from dataclasses import dataclass

from endpoint_picker.domain.endpoint import InFlight
from endpoint_picker.requestcontrol.ports import Clock


@dataclass(slots=True)
class _Sums:
    """What is only added up; written by the ledger only."""

    requests: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Counters(_Sums):
    """Live counters of one endpoint, with a bucket that prompts fill and time drains."""

    __slots__ = ("_backlog_at", "_backlog_tokens", "_clock", "_tokens_per_second")

    def __init__(self, clock: Clock, tokens_per_second: float) -> None:
        super().__init__()
        self._clock = clock
        self._tokens_per_second = tokens_per_second
        self._backlog_tokens = 0.0
        self._backlog_at = 0.0

    @property
    def prefill_backlog_tokens(self) -> float:
        """What has not drained yet."""
        filled = self._backlog_tokens
        if not filled or not self.requests:
            return 0.0
        return max(0.0, filled - (self._clock() - self._backlog_at) * self._tokens_per_second)

    def fill_backlog(self, tokens: float) -> None:
        """Add *tokens*, or take them out if negative, down to 0."""
        self._backlog_tokens = max(0.0, self.prefill_backlog_tokens + tokens)
        self._backlog_at = self._clock()

    def empty_backlog(self) -> None:
        """Leave nothing: there is no request to compute a prompt of."""
        self._backlog_tokens = 0.0


class _Totals(_Sums):
    """Live sums over all endpoints."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[_Counters]) -> None:
        super().__init__()
        self._parts = parts

    @property
    def prefill_backlog_tokens(self) -> float:
        """What has not drained anywhere; takes time in proportion to the endpoints."""
        return sum(part.prefill_backlog_tokens for part in self._parts)


@dataclass(slots=True)
class _Placement:
    """One unfinished request; *prompt_tokens* drops to 0 at the first token."""

    address: str
    prompt_tokens: int
    total_tokens: int
    placed_at: float


class InFlightLedger:
    """Counts every placed request once, on the endpoint that serves it, until it is released once.

    Each operation takes constant time. A request whose end is never reported is released when the time limit has
    passed, so a lost access-log entry blocks nothing for good. An operation on a request that is not in the ledger
    (released before, expired, never placed) changes no counter and is counted in `ignored`.

    The prefill backlog of an endpoint is a guess that needs no word from it: each placed prompt adds its tokens, the
    endpoint computes them at an assumed pace, and one without requests has none left.

    Written by the director and by settlement, in one thread.

    Args:
        time_limit_seconds: How long a request may stay without being renewed; ValueError unless positive.
        clock: What drains the prefill backlog; without one, only the end of the last request does.
        prefill_tokens_per_second: Pace at which an endpoint computes prompts; ValueError unless positive. The default
            lies between what small and large GPUs do. Rather too low than too high: a fifth of the true pace
            still balances better than round robin, twice the true pace forgets the backlog too soon.
    """

    __slots__ = (
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
        self._placements: dict[str, _Placement] = {}  # oldest first
        self._counters: dict[str, _Counters] = {}
        self._present: set[str] = set()
        self._totals = _Totals(self._counters.values())
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
        self, correlation_id: str, address: str, prompt_tokens: int, expected_output_tokens: int, now: float
    ) -> bool:
        """Count a request on an endpoint; return whether it is new, since placing it again changes nothing.

        *now* never goes back; negative tokens count as 0.
        """
        if correlation_id in self._placements:
            self._ignored += 1
            return False
        prompt_tokens = max(0, prompt_tokens)
        placement = _Placement(address, prompt_tokens, prompt_tokens + max(0, expected_output_tokens), now)
        self._placements[correlation_id] = placement
        self._add(placement)
        self._counters[address].fill_backlog(prompt_tokens)
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
        self._add(placement)
        self._counters[address].fill_backlog(prefill_tokens)
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
        placement.placed_at = now
        self._placements[correlation_id] = placement
        return True

    def expire(self, now: float) -> int:
        """Release what was placed the time limit or longer ago; return how many that were.

        Takes time in proportion to what it releases. *now* is of the clock that `place` was given.
        """
        latest = now - self._time_limit_seconds
        overdue: list[str] = []
        for correlation_id, placement in self._placements.items():
            if placement.placed_at > latest:
                break
            overdue.append(correlation_id)
        for correlation_id in overdue:
            self._subtract(self._placements.pop(correlation_id))
        self._expired += len(overdue)
        return len(overdue)

    def forget(self, address: str) -> None:
        """Drop the counters of an endpoint that has left, at once or when its last request ends."""
        self._present.discard(address)
        self._drop_if_gone(address)

    def _counters_of(self, address: str) -> _Counters:
        counters = self._counters.get(address)
        if counters is None:
            counters = self._counters[address] = _Counters(self._clock, self._prefill_tokens_per_second)
        return counters

    def _add(self, placement: _Placement) -> None:
        for counters in (self._counters_of(placement.address), self._totals):
            counters.requests += 1
            counters.prompt_tokens += placement.prompt_tokens
            counters.total_tokens += placement.total_tokens

    def _subtract(self, placement: _Placement) -> None:
        for counters in (self._counters[placement.address], self._totals):
            counters.requests -= 1
            counters.prompt_tokens -= placement.prompt_tokens
            counters.total_tokens -= placement.total_tokens
        counters = self._counters[placement.address]
        if not counters.requests:
            counters.empty_backlog()
        self._drop_if_gone(placement.address)

    def _drop_if_gone(self, address: str) -> None:
        counters = self._counters.get(address)
        if counters is not None and not counters.requests and address not in self._present:
            del self._counters[address]
