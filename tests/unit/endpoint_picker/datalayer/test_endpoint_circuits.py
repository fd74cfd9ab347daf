"""Circuits keep endpoints out of a pool's choice: the dead, and some of the ailing, but never all of them."""

import random
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from endpoint_picker.datalayer.endpoint_circuits import EndpointCircuits
from endpoint_picker.domain.circuit import CircuitReason, CircuitSettings, CircuitState
from endpoint_picker.domain.completion import Attempt

POOL = tuple(f"10.0.0.{number}:8000" for number in range(1, 9))
ONE, TWO, THREE, FOUR = POOL[:4]
SETTINGS = CircuitSettings()
OK, BAD, REFUSED, BUSY = (
    {"status": 200},
    {"status": 500},
    {"status": None, "flags": "UF"},
    {"status": 429, "retry_after_seconds": 5.0},
)


class Scene:
    """Circuits of some addresses and their time."""

    def __init__(self, addresses: Sequence[str] = POOL[:4], **parts: float) -> None:
        self.now = 1000.0
        self.moves: list[tuple[str, CircuitState, CircuitReason | None]] = []
        self.circuits = EndpointCircuits(
            SETTINGS,
            clock=lambda: self.now,
            rng=random.Random(1),
            moved=lambda *move: self.moves.append(move),
            **parts,
        )
        for address in addresses:
            self.circuits.add(address)
        self.addresses = tuple(addresses)

    def learn(self, address: str, parts: dict[str, object], *, times: int = 1, request_id: str = "r") -> None:
        for _ in range(times):
            self.circuits.attempted(Attempt(request_id, address, **parts))  # type: ignore[arg-type]

    def ail(self, *addresses: str) -> None:
        """Make endpoints answer some requests, but not enough."""
        for address in addresses:
            for _ in range(4):
                self.learn(address, OK, times=2)
                self.learn(address, BAD, times=2)

    @property
    def out(self) -> set[str]:
        return set(self.circuits.kept_out(self.addresses))

    def state(self, address: str) -> CircuitState:
        report = self.circuits.report(address)
        assert report is not None
        return report.state


def test_the_dead_are_kept_out_as_long_as_one_is_left() -> None:
    scene = Scene()
    for address in (ONE, TWO, THREE):
        scene.learn(address, REFUSED)
    assert scene.out == {ONE, TWO, THREE}
    scene.learn(FOUR, REFUSED)
    assert scene.out == set()


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        pytest.param(0.0, 0, id="none"),
        pytest.param(0.5, 2, id="half"),
        pytest.param(0.74, 2, id="rounded-down"),
        pytest.param(0.75, 3, id="three-quarters"),
        pytest.param(1.0, 0, id="all-would-leave-nothing-so-all-stay"),
    ],
)
def test_only_a_share_of_the_ailing_is_kept_out(share: float, expected: int) -> None:
    scene = Scene(max_share=share)
    scene.ail(ONE, TWO, THREE, FOUR)
    assert len(scene.out) == expected


def test_the_worst_of_the_ailing_are_kept_out() -> None:
    scene = Scene(max_share=0.25)
    scene.ail(ONE, TWO)
    scene.learn(THREE, BAD, times=3)
    assert scene.out == {THREE}


def test_the_dead_count_towards_the_share_of_the_ailing() -> None:
    scene = Scene()
    scene.learn(ONE, REFUSED)
    scene.ail(TWO, THREE)
    assert len(scene.out) == 2
    assert ONE in scene.out
    scene.learn(FOUR, REFUSED)
    assert scene.out == {ONE, FOUR}


def test_an_endpoint_that_fails_its_probe_is_dead_and_no_more_bound_by_the_share() -> None:
    scene = Scene(POOL[:3])
    for address in (ONE, TWO):
        scene.learn(address, BAD, times=3)
    assert len(scene.out) == 1
    scene.now += 1.0
    for address in (ONE, TWO):
        scene.circuits.kept_out(scene.addresses)
        scene.circuits.chosen(address, address)
        scene.learn(address, BAD, request_id=address)
    assert scene.out == {ONE, TWO}


def test_when_all_are_dead_those_that_can_be_reached_are_left() -> None:
    scene = Scene()
    scene.learn(ONE, REFUSED)
    for address in (TWO, THREE, FOUR):
        scene.learn(address, {"status": None, "flags": "SI", "duration_seconds": 1.0})
    assert scene.out == {ONE}


def test_a_lone_endpoint_stays_in() -> None:
    scene = Scene(POOL[:1])
    scene.learn(ONE, BAD, times=20)
    assert scene.state(ONE) is CircuitState.OPEN
    assert scene.out == set()


def test_the_overloaded_rest_together_only_as_far_as_the_share_goes() -> None:
    scene = Scene()
    for address in scene.addresses:
        scene.learn(address, BUSY)
    assert len(scene.out) == 2


def test_every_change_is_told_once() -> None:
    scene = Scene()
    assert scene.circuits.all_closed
    scene.learn(ONE, BAD, times=3)
    scene.now += 1.0
    assert scene.out == set()
    scene.circuits.chosen(ONE, "probe")
    assert scene.out == {ONE}
    scene.learn(ONE, OK, request_id="probe")
    assert scene.circuits.all_closed
    reason = CircuitReason.FAILURES
    states = (CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED)
    assert scene.moves == [(ONE, state, reason) for state in states]


def test_a_report_says_what_people_want_to_know() -> None:
    scene = Scene()
    scene.learn(ONE, BAD, times=3)
    report = scene.circuits.report(ONE)
    assert report is not None
    assert (report.state, report.reason, report.openings) == (CircuitState.OPEN, CircuitReason.FAILURES, 1)
    assert report.until_seconds is not None
    assert 0.7 < report.until_seconds <= 1.0
    assert (report.attempts, report.error_share, report.probes) == (3, 1.0, 0)
    assert scene.circuits.report("10.9.9.9:80") is None


def test_what_has_left_is_forgotten() -> None:
    scene = Scene()
    scene.learn(ONE, REFUSED)
    scene.circuits.forget(ONE)
    scene.circuits.forget(ONE)
    assert scene.circuits.all_closed
    scene.learn(ONE, REFUSED)
    scene.circuits.page_failed(ONE, late=False)
    scene.circuits.page_answered(ONE)
    scene.circuits.chosen(ONE, "r")
    assert scene.circuits.all_closed


def test_a_share_must_be_one() -> None:
    with pytest.raises(ValueError, match="max_share"):
        Scene(max_share=1.1)


class Machine(RuleBasedStateMachine):
    """Requests are sent to what is left, end in any way and order or never, while pages come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(POOL)
        self.sent = 0
        self.flying: deque[tuple[str, str]] = deque()
        self.answered: set[str] = set()
        """Half-open endpoints that a request was answered by."""

    @rule(pick=st.integers(0, 7))
    def send(self, pick: int) -> None:
        out = self.scene.out
        left = [address for address in POOL if address not in out]
        address, request_id = left[pick % len(left)], f"r{self.sent}"
        self.sent += 1
        self.scene.circuits.chosen(address, request_id)
        self.flying.append((request_id, address))

    @rule(place=st.integers(0, 100), how=st.sampled_from([OK, BAD, REFUSED, BUSY, {"status": None}]))
    def end(self, place: int, how: dict[str, object]) -> None:
        if self.flying:
            self.flying.rotate(place)
            request_id, address = self.flying.popleft()
            if how is OK and self.scene.state(address) is CircuitState.HALF_OPEN:
                self.answered.add(address)
            self.scene.learn(address, how, request_id=request_id)

    @rule(place=st.integers(0, 100))
    def lose(self, place: int) -> None:
        if self.flying:
            self.flying.rotate(place)
            self.flying.popleft()

    @rule(address=st.sampled_from(POOL), late=st.booleans())
    def page_fails(self, address: str, late: bool) -> None:
        self.scene.circuits.page_failed(address, late=late)

    @rule(address=st.sampled_from(POOL))
    def page_answers(self, address: str) -> None:
        self.scene.circuits.page_answered(address)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.scene.now += seconds

    @rule(size=st.integers(1, 8))
    def something_is_left_of_every_pool(self, size: int) -> None:
        assert len(self.scene.circuits.kept_out(POOL[:size])) < size

    @invariant()
    def what_answers_some_is_kept_out_only_up_to_the_share(self) -> None:
        out = self.scene.out
        ailing = {a for a in out if not self.scene.circuits._circuits[a].dead}
        assert not ailing or len(out) <= len(POOL) // 2

    @invariant()
    def closed_circuits_keep_nobody_out(self) -> None:
        assert all(self.scene.state(address) is not CircuitState.CLOSED for address in self.scene.out)

    @invariant()
    def one_request_at_a_time_probes_an_endpoint_until_one_is_answered_then_two(self) -> None:
        self.answered = {a for a in self.answered if self.scene.state(a) is CircuitState.HALF_OPEN}
        for address in POOL:
            report = self.scene.circuits.report(address)
            assert report is not None
            assert report.probes <= (2 if address in self.answered else 1)

    def teardown(self) -> None:
        """Whatever happened, endpoints that answer come back within a bound."""
        scene = self.scene
        for address in POOL:
            scene.circuits.page_answered(address)
        began = scene.now
        while not scene.circuits.all_closed:
            assert scene.now - began <= 2 * SETTINGS.longest_open_seconds + SETTINGS.probe_seconds
            for address in POOL:
                if address not in scene.out:
                    scene.circuits.chosen(address, "again")
                    scene.learn(address, OK, request_id="again")
            scene.now += 1.0


TestMachine = Machine.TestCase
TestMachine.settings = hypothesis_settings(max_examples=40, stateful_step_count=40, deadline=None)
