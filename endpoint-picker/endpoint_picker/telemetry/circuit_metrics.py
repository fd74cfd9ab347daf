"""Metrics of circuits: their states and the share of each pool that is kept out, and every change of state."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from endpoint_picker.domain.circuit import CircuitReason, CircuitState, PoolCircuits

Circuits = Callable[[], Mapping[str, PoolCircuits]]
"""Gives the circuits of every pool by the pool's name."""

_LEVELS: Final[Mapping[CircuitState, int]] = {
    CircuitState.CLOSED: 0,
    CircuitState.HALF_OPEN: 1,
    CircuitState.OPEN: 2,
}


class CircuitCollector(Collector):
    """Turns the present circuits into gauges; no series outlives its endpoint.

    Args:
        circuits: Present circuits.
    """

    def __init__(self, circuits: Circuits) -> None:
        self._circuits = circuits

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families without samples."""
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families with the present samples."""
        states, shares = families = _families()
        for pool, circuits in self._circuits().items():
            for address, state in circuits.states.items():
                states.add_metric((pool, address), _LEVELS[state])
            if circuits.states:
                shares.add_metric((pool,), len(circuits.kept_out) / len(circuits.states))
        yield from families


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "inference_gateway_endpoint_circuit_state",
            "Circuit of an endpoint: 0 closed (passing), 1 half-open (probing), 2 open (rejecting).",
            labels=("pool", "endpoint"),
        ),
        GaugeMetricFamily(
            "inference_gateway_pool_ejected_share",
            "Share of a pool's endpoints that get no requests now, 0 to 1.",
            labels=("pool",),
        ),
    )


class CircuitTransitions:
    """Counts every change of a circuit's state."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "inference_gateway_circuit_transitions_total",
            "Changes of an endpoint's circuit to a state; the reason is that of its last opening.",
            ("endpoint", "state", "reason"),
            registry=registry,
        )
        self._series: set[tuple[str, str, str]] = set()

    def record(self, address: str, state: CircuitState, reason: CircuitReason | None) -> None:
        """Count one change."""
        labels = (address, state.value, reason.value if reason else "")
        self._series.add(labels)
        self._counter.labels(*labels).inc()

    def forget_departed(self, present: set[str]) -> None:
        """Drop the series of endpoints that are not *present*."""
        for labels in [labels for labels in self._series if labels[0] not in present]:
            self._series.discard(labels)
            self._counter.remove(*labels)
