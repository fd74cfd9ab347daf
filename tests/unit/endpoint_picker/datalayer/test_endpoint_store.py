"""Endpoints keep their readings across edits; one that cannot be reached is chosen when nothing else is left."""

import pytest

from endpoint_picker.datalayer.endpoint_store import EndpointStore
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
    store = EndpointStore(ledger, clock=clock, models=lambda: {ONE: ("a",), THREE: ("b",)})
    store.replace({POOL: pool_of(endpoints=3)})
    return store


def chosen_from(store: EndpointStore) -> list[str]:
    return [endpoint.address for endpoint in store.candidates(POOL)]


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
    assert not store.reachable("10.9.9.9:80")
    assert (store.candidates(PoolKey("x", "y", "v1")), store.served_models(OTHER_POOL)) == ((), [])


def test_two_unreachable_pages_keep_an_endpoint_out(store: EndpointStore) -> None:
    store.page_failed(ONE, unreachable=True)
    assert chosen_from(store) == [ONE, TWO, THREE]
    store.page_failed(ONE, unreachable=True)
    assert chosen_from(store) == [TWO, THREE]
    store.page_failed(ONE, unreachable=False)
    assert chosen_from(store) == [ONE, TWO, THREE]


def test_a_reading_brings_an_endpoint_back(store: EndpointStore) -> None:
    store.page_failed(ONE, unreachable=True)
    store.page_failed(ONE, unreachable=True)
    store.publish(ONE, READING)
    assert store.reachable(ONE)


def test_where_nothing_can_be_reached_everything_is_tried(store: EndpointStore) -> None:
    for address in (ONE, TWO, THREE):
        store.page_failed(address, unreachable=True)
        store.page_failed(address, unreachable=True)
    assert chosen_from(store) == [ONE, TWO, THREE]


def test_a_refused_connection_makes_suspect_for_a_moment(store: EndpointStore, clock: Clock) -> None:
    store.attempted(Attempt("r", ONE, flags="URX,UF"))
    assert chosen_from(store) == [TWO, THREE]
    clock.now += 1.0
    assert chosen_from(store) == [ONE, TWO, THREE]


def test_an_answer_ends_the_suspicion(store: EndpointStore) -> None:
    store.attempted(Attempt("r", ONE, flags="UF"))
    store.attempted(Attempt("r", ONE, status=200))
    assert store.reachable(ONE)


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(Attempt("r", ONE, status=503), id="server-error"),
        pytest.param(Attempt("r", ONE, flags="UT"), id="timeout"),
        pytest.param(Attempt("r", ONE, flags="DC"), id="the-client-left"),
        pytest.param(Attempt("r", ONE), id="no-answer-and-no-reason"),
        pytest.param(Attempt("r", ONE, live=True), id="live"),
    ],
)
def test_one_attempt_of_another_kind_says_nothing(store: EndpointStore, attempt: Attempt) -> None:
    store.attempted(attempt)
    assert store.reachable(ONE)


def test_failures_in_a_row_keep_out_for_longer_and_longer(store: EndpointStore, clock: Clock) -> None:
    failure = Attempt("r", ONE, status=500)
    for _ in range(2):
        store.attempted(failure)
    assert store.reachable(ONE)
    for expected in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        store.attempted(failure)
        clock.now += expected - 0.01
        assert not store.reachable(ONE)
        clock.now += 0.01
        assert store.reachable(ONE)


def test_models_of_a_pool(store: EndpointStore) -> None:
    assert store.served_models(POOL) == ["a", "b"]
    assert [len(endpoints) for endpoints in store.by_pool_name().values()] == [3]


def test_late_pages_say_less_than_refused_ones(store: EndpointStore) -> None:
    for _ in range(4):
        store.page_failed(ONE, unreachable=False, timed_out=True)
    assert store.reachable(ONE)
    store.page_failed(ONE, unreachable=False, timed_out=True)
    assert not store.reachable(ONE)


def test_failures_in_a_row_keep_an_endpoint_out_for_longer_and_longer_until_one_succeeds(
    store: EndpointStore, clock: Clock
) -> None:
    failed = Attempt("r", ONE, status=503)
    out: list[float] = []
    for _ in range(9):
        store.attempted(failed)
        began = clock.now
        while not store.reachable(ONE):
            clock.now += 0.5
        out.append(clock.now - began)
    assert out == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    store.attempted(Attempt("r", ONE, status=200))
    store.attempted(failed)
    assert store.reachable(ONE)
