"""The circuits of all endpoints, and which endpoints of a pool they keep out: never all of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from endpoint_picker.domain.circuit import Circuit, CircuitReason, CircuitSettings, CircuitState, PoolCircuits
from endpoint_picker.domain.completion import Attempt

Moved: TypeAlias = Callable[[str, CircuitState, CircuitReason | None], None]
"""Hears of an address whose circuit has a new state, and why it opened last."""

_NONE: Final[frozenset[str]] = frozenset()
_CLOSED: Final = CircuitState.CLOSED


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """One circuit for people.

    Attributes:
        state: Present state.
        reason: Why it opened last; None if it never did, or is closed.
        openings: How often it opened without a healthy time between.
        until_seconds: How long it stays open; None unless open.
        probes: Requests that probe the endpoint now.
        attempts: Recent attempts.
        error_share: Share of them that failed.
    """

    state: CircuitState
    reason: CircuitReason | None
    openings: int
    until_seconds: float | None
    probes: int
    attempts: int
    error_share: float


class EndpointCircuits:
    """One circuit per address; a closed one costs nothing when candidates are asked for.

    Of a pool are kept out, while at least one endpoint is left:

    - every endpoint that is believed to answer nothing: it cannot be reached, kept silent, or failed its probe;
    - endpoints that answer some requests, from the worst on, while no more than *max_share* of the pool is out.

    When nothing would be left, the least bad stay in: all that can be reached, else all.

    Args:
        settings: When circuits open and close.
        max_share: Share of a pool, 0 to 1; ValueError beyond.
        clock: Monotonic seconds.
        rng: Decides on how long a circuit stays open.
        moved: Hears of every new state.
    """

    def __init__(
        self,
        settings: CircuitSettings,
        *,
        max_share: float = 0.5,
        clock: Callable[[], float],
        rng: random.Random,
        moved: Moved = lambda _address, _state, _reason: None,
    ) -> None:
        if not 0 <= max_share <= 1:
            msg = f"max_share must be between 0 and 1, got {max_share}"
            raise ValueError(msg)
        self._settings = settings
        self._max_share = max_share
        self._clock = clock
        self._rng = rng
        self._moved = moved
        self._circuits: dict[str, Circuit] = {}
        self._troubled: dict[str, CircuitState] = {}

    @property
    def all_closed(self) -> bool:
        """Whether no circuit of any endpoint is open or half-open, so that nothing can be kept out."""
        return not self._troubled

    def add(self, address: str) -> None:
        """Give an address a closed circuit."""
        self._circuits[address] = Circuit(self._settings, now=self._clock(), luck=self._rng.random)

    def forget(self, address: str) -> None:
        """Drop an address; harmless if unknown."""
        self._circuits.pop(address, None)
        self._troubled.pop(address, None)

    def attempted(self, attempt: Attempt) -> None:
        """Learn from an attempt; of a live one that has begun to answer, once. Unknown addresses say nothing."""
        circuit = self._circuits.get(attempt.address)
        if circuit is not None:
            circuit.attempted(attempt, self._clock())
            self._note(attempt.address, circuit)

    def page_failed(self, address: str, *, late: bool) -> None:
        """Learn that a metrics page was refused, or late."""
        circuit = self._circuits.get(address)
        if circuit is not None:
            circuit.page_failed(self._clock(), late=late)
            self._note(address, circuit)

    def page_answered(self, address: str) -> None:
        """Learn that something answers where the metrics page is looked for."""
        circuit = self._circuits.get(address)
        if circuit is not None and circuit.misses_pages:
            circuit.page_answered(self._clock())
            self._note(address, circuit)

    def chosen(self, address: str, request_id: str) -> None:
        """Learn that a request goes to this address first: it is a probe if the circuit is half-open."""
        if address in self._troubled:
            self._circuits[address].reserve(request_id, self._clock())

    def kept_out(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return which of a pool's *addresses* are to be left alone now."""
        troubled = [(address, self._refreshed(address)) for address in addresses if address in self._troubled]
        out = [(address, circuit) for address, circuit in troubled if not circuit.admits]
        if not out:
            return _NONE
        dead = {address for address, circuit in out if circuit.dead}
        room = int(self._max_share * len(addresses)) - len(dead)
        ailing = sorted((item for item in out if item[0] not in dead), key=lambda item: item[1].badness, reverse=True)
        kept = dead.union(address for address, _ in ailing[: max(0, room)])
        if len(kept) == len(addresses):
            unreachable = {a for a, circuit in out if circuit.dead and circuit.reason is CircuitReason.UNREACHABLE}
            return frozenset(unreachable) if len(unreachable) < len(addresses) else _NONE
        return frozenset(kept)

    def report(self, address: str) -> CircuitReport | None:
        """Return what is known of an address; None for an unknown one."""
        if address not in self._circuits:
            return None
        circuit = self._refreshed(address)
        closed, is_open = circuit.state is CircuitState.CLOSED, circuit.state is CircuitState.OPEN
        return CircuitReport(
            state=circuit.state,
            reason=None if closed else circuit.reason,
            openings=circuit.openings,
            until_seconds=max(0.0, circuit.until - self._clock()) if is_open else None,
            probes=circuit.probes,
            attempts=circuit.attempts,
            error_share=circuit.error_share,
        )

    def of_pool(self, addresses: Sequence[str]) -> PoolCircuits:
        """Return the circuits of a pool's *addresses*."""
        states = {address: self._refreshed(address).state for address in addresses}
        return PoolCircuits(states, self.kept_out(addresses))

    def _refreshed(self, address: str) -> Circuit:
        circuit = self._circuits[address]
        circuit.refresh(self._clock())
        self._note(address, circuit)
        return circuit

    def _note(self, address: str, circuit: Circuit) -> None:
        """Keep the list of those that are not closed, and pass the news on."""
        state = circuit.state
        if state is self._troubled.get(address, _CLOSED):
            return
        if state is _CLOSED:
            del self._troubled[address]
        else:
            self._troubled[address] = state
        self._moved(address, state, circuit.reason)
