"""Endpoints keep their readings across edits; one whose circuit is open is chosen when nothing else is left."""

import random

import pytest

from endpoint_picker.datalayer.endpoint_circuits import EndpointCircuits
from endpoint_picker.datalayer.endpoint_store import EndpointStore
from endpoint_picker.domain.circuit import CircuitSettings, CircuitState
from endpoint_picker.domain.completion import Attempt
from endpoint_picker.domain.endpoint import EndpointMetrics
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from inference_resolution.resolved import PoolKey
from picker_world import OTHER_POOL, POOL, endpoint_at, pool_of

ONE, TWO, THREE = (endpoint_at(number).address for number in (1, 2, 3))
READING = EndpointMetrics(waiting_queue_size=4)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger() -> InFlightLedger:
    return InFlightLedger()


@pytest.fixture
def store(clock: Clock, ledger: InFlightLedger) -> EndpointStore:
    circuits = EndpointCircuits(CircuitSettings(), clock=clock, rng=random.Random(1))
    store = EndpointStore(ledger, circuits, models=lambda: {ONE: ("a",), THREE: ("b",)})
    store.replace({POOL: pool_of(endpoints=3)})
    return store


def chosen_from(store: EndpointStore) -> list[str]:
    return [endpoint.address for endpoint in store.candidates(POOL)]


def state_of(store: EndpointStore, address: str) -> CircuitState | None:
    circuit = store.circuit(address)
    return circuit.state if circuit is not None else None


def test_replacing_keeps_readings_of_those_that_stay(store: EndpointStore, ledger: InFlightLedger) -> None:
    store.publish(ONE, READING)
    ledger.place("c", ONE, 5, 5, 0.0)
    assert store.replace({POOL: pool_of(endpoints=1), OTHER_POOL: pool_of(OTHER_POOL, endpoints=1)}) == {TWO, THREE}
    for pool in (POOL, OTHER_POOL):
        (endpoint,) = store.endpoints(pool)
        assert (endpoint.metrics, endpoint.in_flight.requests) == (READING, 1)


def test_a_reading_reaches_every_pool_of_its_address(store: EndpointStore) -> None:
    store.replace({POOL: pool_of(endpoints=1), OTHER_POOL: pool_of(OTHER_POOL, endpoints=1)})
    store.endpoints(POOL)
    store.publish(ONE, READING)
    assert [store.endpoints(pool)[0].metrics for pool in (POOL, OTHER_POOL)] == [READING, READING]
    store.publish(ONE, None)
    assert store.endpoints(POOL)[0].metrics is None


def test_what_is_not_there_is_ignored(store: EndpointStore) -> None:
    store.publish("10.9.9.9:80", READING)
    store.page_failed("10.9.9.9:80", unreachable=True)
    store.attempted(Attempt("r", "10.9.9.9:80", flags="UF"))
    assert store.circuit("10.9.9.9:80") is None
    assert (store.candidates(PoolKey("x", "y", "v1")), store.served_models(OTHER_POOL)) == ((), [])


def test_while_all_circuits_are_closed_candidates_are_the_very_tuple_of_before(store: EndpointStore) -> None:
    first = store.candidates(POOL)
    assert store.candidates(POOL) is first
    store.attempted(Attempt("r", ONE, flags="UF"))
    assert store.candidates(POOL) is not first


def test_two_refused_pages_keep_an_endpoint_out_until_one_answers(store: EndpointStore) -> None:
    store.page_failed(ONE, unreachable=True)
    assert chosen_from(store) == [ONE, TWO, THREE]
    store.page_failed(ONE, unreachable=True)
    assert chosen_from(store) == [TWO, THREE]
    store.page_failed(ONE, unreachable=False)
    assert chosen_from(store) == [ONE, TWO, THREE]
    assert state_of(store, ONE) is CircuitState.HALF_OPEN


def test_a_reading_lets_an_endpoint_be_probed(store: EndpointStore) -> None:
    store.page_failed(ONE, unreachable=True)
    store.page_failed(ONE, unreachable=True)
    store.publish(ONE, READING)
    store.chosen(ONE, "r")
    assert chosen_from(store) == [TWO, THREE]
    store.attempted(Attempt("r", ONE, status=200))
    assert chosen_from(store) == [ONE, TWO, THREE]
    assert state_of(store, ONE) is CircuitState.CLOSED


def test_where_nothing_can_be_reached_everything_is_tried(store: EndpointStore) -> None:
    for address in (ONE, TWO, THREE):
        store.page_failed(address, unreachable=True)
        store.page_failed(address, unreachable=True)
    assert chosen_from(store) == [ONE, TWO, THREE]


def test_late_pages_say_less_than_refused_ones(store: EndpointStore) -> None:
    for _ in range(4):
        store.page_failed(ONE, unreachable=False, timed_out=True)
    assert state_of(store, ONE) is CircuitState.CLOSED
    store.page_failed(ONE, unreachable=False, timed_out=True)
    assert state_of(store, ONE) is CircuitState.OPEN


def test_an_address_that_returns_begins_anew(store: EndpointStore) -> None:
    store.attempted(Attempt("r", ONE, flags="UF"))
    store.replace({POOL: pool_of(endpoints=0)})
    assert store.circuit(ONE) is None
    store.replace({POOL: pool_of(endpoints=3)})
    assert chosen_from(store) == [ONE, TWO, THREE]


def test_models_of_a_pool(store: EndpointStore) -> None:
    assert store.served_models(POOL) == ["a", "b"]
    assert [len(endpoints) for endpoints in store.by_pool_name().values()] == [3]


def test_metrics_are_told_of_the_circuits_of_every_pool(store: EndpointStore) -> None:
    store.attempted(Attempt("r", TWO, flags="UF"))
    (circuits,) = store.circuits_by_pool_name().values()
    assert circuits.kept_out == {TWO}
    assert circuits.states == {ONE: CircuitState.CLOSED, TWO: CircuitState.OPEN, THREE: CircuitState.CLOSED}
