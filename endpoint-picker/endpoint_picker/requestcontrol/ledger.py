"""The in-flight ledger: this picker's own unfinished work, per endpoint, exact at every moment."""

from dataclasses import dataclass

from endpoint_picker.domain.endpoint import InFlight


@dataclass(slots=True)
class _Counters:
    """Live counters of one endpoint, or of all; written by the ledger only."""

    requests: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0


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

    Written by the director and by settlement, in one thread.

    Args:
        time_limit_seconds: How long a request may stay without being renewed; ValueError unless positive.
    """

    __slots__ = ("_counters", "_expired", "_ignored", "_placements", "_present", "_time_limit_seconds", "_totals")

    def __init__(self, time_limit_seconds: float = 60.0) -> None:
        if time_limit_seconds <= 0.0:
            msg = f"time_limit_seconds must be positive, got {time_limit_seconds}"
            raise ValueError(msg)
        self._time_limit_seconds = time_limit_seconds
        self._placements: dict[str, _Placement] = {}  # oldest first
        self._counters: dict[str, _Counters] = {}
        self._present: set[str] = set()
        self._totals = _Counters()
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
        """Count a request on another endpoint, which serves it instead; return whether that is news."""
        placement = self._placements.get(correlation_id)
        if placement is None:
            self._ignored += 1
            return False
        if placement.address == address:
            return False
        self._subtract(placement)
        placement.address = address
        self._add(placement)
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
            counters = self._counters[address] = _Counters()
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
        self._drop_if_gone(placement.address)

    def _drop_if_gone(self, address: str) -> None:
        counters = self._counters.get(address)
        if counters is not None and not counters.requests and address not in self._present:
            del self._counters[address]
