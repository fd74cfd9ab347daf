"""A circuit opens on failures, lets single requests probe it later, and closes when they are answered."""

import random
from dataclasses import dataclass, field

import pytest

from endpoint_picker.domain.circuit import Circuit, CircuitReason, CircuitSettings, CircuitState
from endpoint_picker.domain.completion import Attempt

ADDRESS = "10.0.0.1:8000"
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@dataclass
class Scene:
    """A circuit and its time."""

    settings: CircuitSettings = field(default_factory=CircuitSettings)
    now: float = 1000.0
    circuit: Circuit = field(init=False)

    def __post_init__(self) -> None:
        self.circuit = Circuit(self.settings, now=self.now, luck=lambda: 1.0)

    @property
    def state(self) -> CircuitState:
        self.circuit.refresh(self.now)
        return self.circuit.state

    def learn(self, status: int | None = 200, *, times: int = 1, request_id: str = "r", **parts: object) -> None:
        for _ in range(times):
            attempt = Attempt(request_id, ADDRESS, status, **parts)  # type: ignore[arg-type]
            self.circuit.attempted(attempt, self.now)

    def open(self) -> None:
        """Fail until it opens."""
        self.learn(500, times=self.settings.failures_in_a_row)
        assert self.state is OPEN

    def until_half_open(self) -> float:
        """Let time pass until it is half-open; return how long that took."""
        began = self.now
        self.now = self.circuit.until
        assert self.state is HALF_OPEN
        return self.now - began

    def probe(self, status: int | None = 200, **parts: object) -> None:
        """Send one probe and learn its result."""
        self.circuit.reserve("probe", self.now)
        self.learn(status, request_id="probe", **parts)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("attempt", "times", "reason"),
    [
        pytest.param({"status": None, "flags": "URX,UF"}, 1, CircuitReason.UNREACHABLE, id="no-connection"),
        pytest.param(
            {"status": None, "flags": "SI", "duration_seconds": 5.0}, 1, CircuitReason.SILENT, id="nothing-came"
        ),
        pytest.param({"status": 500}, 3, CircuitReason.FAILURES, id="server-errors"),
        pytest.param({"status": 503}, 3, CircuitReason.FAILURES, id="unavailable"),
        pytest.param({"status": None, "flags": "UPE"}, 3, CircuitReason.FAILURES, id="garbage"),
        pytest.param({"status": 200, "flags": "UC", "started": True}, 3, CircuitReason.FAILURES, id="cut-streams"),
        pytest.param({"status": 200, "flags": "SI", "started": True}, 3, CircuitReason.FAILURES, id="stalled-streams"),
    ],
)
def test_what_opens_it_and_when(scene: Scene, attempt: dict[str, object], times: int, reason: CircuitReason) -> None:
    scene.learn(times=times - 1, **attempt)  # type: ignore[arg-type]
    assert scene.state is CLOSED
    scene.learn(**attempt)  # type: ignore[arg-type]
    assert (scene.state, scene.circuit.reason) == (OPEN, reason)
    assert not scene.circuit.admits


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param({"status": 200}, id="answered"),
        pytest.param({"status": 404}, id="the-callers-mistake"),
        pytest.param({"status": None}, id="the-client-left-before-the-first-byte"),
        pytest.param({"status": 200, "started": True}, id="the-client-left-after-it"),
        pytest.param({"status": None, "live": True}, id="live"),
        pytest.param({"status": None, "flags": "OM"}, id="the-data-plane-had-too-much-to-do"),
        pytest.param({"status": 200, "flags": "UT", "started": True}, id="a-limit-on-the-whole-answer"),
    ],
)
def test_what_never_opens_it(scene: Scene, attempt: dict[str, object]) -> None:
    scene.learn(times=50, **attempt)  # type: ignore[arg-type]
    assert scene.state is CLOSED


def test_an_answer_ends_a_row_of_failures(scene: Scene) -> None:
    for _ in range(3):
        scene.learn(500, times=2)
        scene.learn(200)
    assert scene.state is CLOSED


def test_silence_is_none_while_others_are_answered(scene: Scene) -> None:
    scene.learn(200)
    scene.now += 4.0
    scene.learn(None, flags="SI", duration_seconds=5.0)
    assert scene.state is CLOSED
    scene.now += 5.0
    scene.learn(None, flags="SI", duration_seconds=5.0)
    assert scene.circuit.reason is CircuitReason.SILENT


def test_a_first_byte_of_a_running_stream_breaks_the_silence(scene: Scene) -> None:
    scene.learn(None, live=True, started=True)
    scene.now += 4.0
    scene.learn(None, flags="SI", duration_seconds=5.0)
    assert scene.state is CLOSED


def test_a_share_of_errors_opens_it_once_there_are_enough_attempts(scene: Scene) -> None:
    for _ in range(3):
        scene.learn(500)
        scene.learn(200, times=2)
    assert (scene.state, scene.circuit.attempts) == (CLOSED, 9)
    scene.learn(500)
    assert (scene.state, scene.circuit.reason) == (OPEN, CircuitReason.ERROR_SHARE)


def test_a_small_share_of_errors_is_borne(scene: Scene) -> None:
    for _ in range(100):
        scene.learn(200, times=4)
        scene.learn(500)
    assert scene.state is CLOSED
    assert scene.circuit.error_share == pytest.approx(0.2)


def test_what_is_long_past_is_forgotten(scene: Scene) -> None:
    for _ in range(9):
        scene.learn(200, times=4)
        scene.learn(500)
    scene.now += scene.settings.window_seconds
    scene.learn(500)
    assert (scene.state, scene.circuit.attempts, scene.circuit.error_share) == (CLOSED, 1, 1.0)


def test_it_stays_open_for_longer_and_longer_up_to_a_bound(scene: Scene) -> None:
    scene.open()
    times = []
    for _ in range(8):
        times.append(scene.until_half_open())
        scene.probe(500)
        assert scene.state is OPEN
    assert times == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_chance_shortens_the_time_by_a_quarter_at_most() -> None:
    rng = random.Random(3)
    seconds = []
    for _ in range(200):
        circuit = Circuit(CircuitSettings(), now=0.0, luck=rng.random)
        circuit.attempted(Attempt("r", ADDRESS, flags="UF"), 0.0)
        seconds.append(circuit.until)
    assert 0.75 <= min(seconds) < 0.77
    assert 0.98 < max(seconds) <= 1.0


def test_a_healthy_time_is_a_new_start(scene: Scene) -> None:
    scene.open()
    scene.until_half_open()
    scene.probe()
    scene.now += scene.settings.healthy_seconds - 1.0
    scene.open()
    assert scene.until_half_open() == 2.0
    scene.probe()
    scene.probe()
    scene.now += scene.settings.healthy_seconds
    scene.open()
    assert scene.until_half_open() == 1.0


def test_one_probe_at_a_time_then_two(scene: Scene) -> None:
    scene.open()
    for _ in range(2):
        scene.until_half_open()
        scene.probe(500)
    scene.until_half_open()
    circuit = scene.circuit
    circuit.reserve("a", scene.now)
    assert not circuit.admits
    circuit.reserve("b", scene.now)
    assert circuit.probes == 1
    scene.learn(200, request_id="a")
    circuit.reserve("b", scene.now)
    assert circuit.admits
    circuit.reserve("c", scene.now)
    assert (circuit.probes, circuit.admits) == (2, False)


@pytest.mark.parametrize("failed_probes", [0, 1, 2, 5])
def test_it_closes_after_as_many_answers_as_it_opened_times_up_to_three(scene: Scene, failed_probes: int) -> None:
    scene.open()
    for _ in range(failed_probes):
        scene.until_half_open()
        scene.probe(500)
    scene.until_half_open()
    answers = 0
    while scene.state is not CLOSED:
        scene.probe()
        answers += 1
    assert answers == min(failed_probes + 1, 3)
    assert scene.circuit.attempts == 0


def test_only_what_becomes_of_probes_decides(scene: Scene) -> None:
    scene.open()
    scene.until_half_open()
    scene.circuit.reserve("probe", scene.now)
    scene.learn(500, request_id="from-before", times=9)
    scene.learn(200, request_id="from-before", times=9)
    assert (scene.state, scene.circuit.probes) == (HALF_OPEN, 1)


def test_while_it_is_open_nothing_is_learned_from_attempts(scene: Scene) -> None:
    scene.open()
    until = scene.circuit.until
    scene.learn(500, times=5)
    scene.learn(200, times=5)
    assert (scene.state, scene.circuit.until, scene.circuit.openings) == (OPEN, until, 1)


def test_a_probe_whose_client_left_makes_room(scene: Scene) -> None:
    scene.open()
    scene.until_half_open()
    scene.probe(None)
    assert (scene.state, scene.circuit.admits) == (HALF_OPEN, True)


def test_a_probe_of_which_nothing_is_heard_makes_room_in_time(scene: Scene) -> None:
    scene.open()
    scene.until_half_open()
    scene.circuit.reserve("lost", scene.now)
    scene.now += scene.settings.probe_seconds - 0.1
    assert scene.state is HALF_OPEN
    assert not scene.circuit.admits
    scene.now += 0.1
    assert scene.state is HALF_OPEN
    assert scene.circuit.admits


def test_a_probe_that_is_reported_to_go_on_keeps_its_place(scene: Scene) -> None:
    scene.open()
    scene.until_half_open()
    scene.circuit.reserve("slow", scene.now)
    for _ in range(10):
        scene.now += 10.0
        scene.learn(None, request_id="slow", live=True)
        assert scene.state is HALF_OPEN
        assert not scene.circuit.admits
    scene.learn(None, request_id="slow", live=True, started=True)
    assert scene.state is CLOSED


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        pytest.param({"status": 500}, CircuitReason.FAILURES, id="server-error"),
        pytest.param({"status": None, "flags": "UF"}, CircuitReason.UNREACHABLE, id="no-connection"),
        pytest.param({"status": None, "flags": "SI"}, CircuitReason.SILENT, id="nothing-came"),
    ],
)
def test_a_failed_probe_says_why_it_is_open_again(
    scene: Scene, attempt: dict[str, object], reason: CircuitReason
) -> None:
    scene.open()
    scene.until_half_open()
    scene.probe(**attempt)  # type: ignore[arg-type]
    assert (scene.state, scene.circuit.reason) == (OPEN, reason)


def test_an_endpoint_is_dead_once_a_probe_failed_and_none_was_answered(scene: Scene) -> None:
    scene.open()
    assert not scene.circuit.dead
    scene.until_half_open()
    scene.probe(500)
    assert scene.circuit.dead
    scene.until_half_open()
    scene.probe(200)
    assert not scene.circuit.dead


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        pytest.param(429, 7.0, 7.0, id="as-long-as-it-asks-for"),
        pytest.param(503, 7.0, 7.0, id="also-with-503"),
        pytest.param(429, 86_400.0, 30.0, id="but-not-for-ever"),
    ],
)
def test_an_overloaded_endpoint_rests_and_nothing_is_held_against_it(
    scene: Scene, status: int, retry_after: float | None, seconds: float
) -> None:
    scene.learn(status, retry_after_seconds=retry_after)
    assert (scene.state, scene.circuit.reason) == (OPEN, CircuitReason.OVERLOADED)
    assert not scene.circuit.dead
    scene.now += seconds - 0.1
    assert scene.state is OPEN
    scene.now += 0.1
    assert (scene.state, scene.circuit.openings) == (CLOSED, 0)


def test_an_endpoint_that_refuses_several_requests_in_a_row_rests_though_it_does_not_say_how_long(scene: Scene) -> None:
    scene.learn(429, times=2)
    scene.learn(200)
    scene.learn(429, times=2)
    assert scene.state is CLOSED
    scene.learn(429)
    assert (scene.state, scene.circuit.reason) == (OPEN, CircuitReason.OVERLOADED)
    scene.now += scene.settings.open_seconds
    scene.learn(429)
    assert scene.state is CLOSED


def test_an_overloaded_endpoint_may_want_no_rest(scene: Scene) -> None:
    scene.learn(429, retry_after_seconds=0.0)
    assert scene.state is CLOSED


def test_a_probe_that_finds_it_overloaded_finds_it_alive(scene: Scene) -> None:
    scene.open()
    scene.until_half_open()
    scene.probe(429)
    assert (scene.state, scene.circuit.reason) == (OPEN, CircuitReason.OVERLOADED)
    scene.now += 1.0
    assert scene.state is CLOSED
    scene.now += scene.settings.healthy_seconds - 2.0
    scene.open()
    assert scene.circuit.openings == 2


def lose_pages(scene: Scene) -> None:
    scene.circuit.page_failed(scene.now, late=False)
    scene.circuit.page_failed(scene.now, late=False)


def test_lost_pages_open_it_for_long_and_a_page_makes_it_half_open(scene: Scene) -> None:
    lose_pages(scene)
    assert (scene.state, scene.circuit.reason) == (OPEN, CircuitReason.UNREACHABLE)
    scene.now += 20.0
    assert scene.state is OPEN
    scene.circuit.page_answered(scene.now)
    assert scene.state is HALF_OPEN


def test_lost_pages_prolong_what_attempts_began(scene: Scene) -> None:
    scene.learn(None, flags="UF")
    lose_pages(scene)
    assert scene.circuit.openings == 1
    scene.now += 20.0
    assert scene.state is OPEN


def test_lost_pages_end_a_rest(scene: Scene) -> None:
    scene.learn(429, times=3)
    lose_pages(scene)
    assert (scene.state, scene.circuit.reason, scene.circuit.openings) == (OPEN, CircuitReason.UNREACHABLE, 1)


def test_pages_that_were_never_lost_say_nothing_about_refused_connections(scene: Scene) -> None:
    scene.learn(None, flags="UF")
    scene.circuit.page_answered(scene.now)
    assert scene.state is OPEN


def test_while_pages_are_lost_it_is_probed_all_the_same_and_an_answer_makes_them_mistrusted(scene: Scene) -> None:
    lose_pages(scene)
    assert scene.until_half_open() <= 30.0
    scene.circuit.reserve("probe", scene.now)
    lose_pages(scene)
    assert scene.state is HALF_OPEN
    scene.learn(200, request_id="probe")
    lose_pages(scene)
    assert scene.state is CLOSED
    scene.circuit.page_answered(scene.now)
    lose_pages(scene)
    assert scene.state is OPEN


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"failures_in_a_row": 0}, id="no-failures"),
        pytest.param({"error_share": 0.0}, id="no-share"),
        pytest.param({"least_attempts": 41}, id="window-too-small"),
        pytest.param({"open_seconds": 31.0}, id="first-longer-than-longest"),
    ],
)
def test_settings_that_make_no_sense_are_refused(parts: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CircuitSettings(**parts)  # type: ignore[arg-type]
