"""Circuits are shown as one number per endpoint and one share per pool; every change is counted while it is there."""

from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from endpoint_picker.domain.circuit import CircuitReason, CircuitState, PoolCircuits
from endpoint_picker.domain.endpoint import Endpoint, NoInFlight
from endpoint_picker.telemetry.metrics import PickerMetrics

ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Scene:
    """Metrics of pools that the test changes."""

    def __init__(self) -> None:
        self.circuits: Mapping[str, PoolCircuits] = {}
        self.pools: Mapping[str, Sequence[Endpoint]] = {
            "p": [Endpoint(address, address, in_flight=NoInFlight()) for address in (ONE, TWO)]
        }
        self.metrics = PickerMetrics(clock=lambda: 0.0, pools=lambda: self.pools, circuits=lambda: self.circuits)

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        parsed = text_string_to_metric_families(self.metrics.render().decode())
        return [(s.labels, s.value) for family in parsed for s in family.samples if s.name == name]


def test_states_and_the_share_that_is_kept_out() -> None:
    scene = Scene()
    states = {"a:1": CLOSED, "a:2": HALF_OPEN, "a:3": OPEN, "a:4": OPEN}
    scene.circuits = {"p": PoolCircuits(states, frozenset({"a:3"})), "empty": PoolCircuits({}, frozenset())}
    assert scene.samples("inference_gateway_endpoint_circuit_state") == [
        ({"pool": "p", "endpoint": address}, level) for address, level in zip(states, (0, 1, 2, 2), strict=True)
    ]
    assert scene.samples("inference_gateway_pool_ejected_share") == [({"pool": "p"}, 0.25)]


def test_changes_are_counted_until_the_endpoint_leaves() -> None:
    scene = Scene()
    for _ in range(2):
        scene.metrics.record_circuit(ONE, OPEN, CircuitReason.FAILURES)
        scene.metrics.record_circuit(ONE, HALF_OPEN, CircuitReason.FAILURES)
    scene.metrics.record_circuit(TWO, OPEN, CircuitReason.SILENT)
    name = "inference_gateway_circuit_transitions_total"
    expected = [
        ({"endpoint": ONE, "state": "open", "reason": "failures"}, 2.0),
        ({"endpoint": ONE, "state": "half-open", "reason": "failures"}, 2.0),
        ({"endpoint": TWO, "state": "open", "reason": "silent"}, 1.0),
    ]
    assert scene.samples(name) == expected
    scene.pools = {"p": [Endpoint(TWO, TWO, in_flight=NoInFlight())]}
    scene.metrics.render()
    assert scene.samples(name) == expected[2:]
