"""A soak forgives only what a fault explains, and tells growth from warming up."""

import pytest
from benchmarks.soak.history import ENVOY, Ending, Fault, History, Request
from benchmarks.soak.samples import Life, slope


def request(ending: Ending, *, began: float = 10.0, ended: float = 12.0, server: str = "server-0") -> Request:
    return Request("short stream", began, ended, ending, "why", server)


def fault(*breaks: str, struck: float = 11.0, over: float | None = 11.5, problem: str = "") -> Fault:
    return Fault("fault", "", frozenset(breaks), struck, over, problem=problem)


@pytest.mark.parametrize("ending", [Ending.ANSWERED, Ending.ABORTED])
def test_what_ended_as_planned_is_no_violation(ending: Ending) -> None:
    assert History([request(ending)], []).violations() == []


@pytest.mark.parametrize("ending", [Ending.LOST, Ending.SILENT, Ending.WRONG])
def test_no_fault_explains_what_must_never_be(ending: Ending) -> None:
    (line,) = History([request(ending)], [fault(ENVOY, "server-0")]).violations()
    assert line == f"short stream {ending} after 2.0 s: why server-0"


@pytest.mark.parametrize(
    ("struck", "forgiven"),
    [
        pytest.param(fault(ENVOY), True, id="envoy"),
        pytest.param(fault("server-0"), True, id="its-server"),
        pytest.param(fault("server-1"), False, id="another-server"),
        pytest.param(fault(), False, id="nothing-that-cuts"),
        pytest.param(fault(ENVOY, struck=1.0, over=2.0), False, id="long-before"),
        pytest.param(fault(ENVOY, struck=20.0, over=None), False, id="after-it"),
        pytest.param(fault(ENVOY, struck=1.0, over=None), True, id="begun-before-and-not-over"),
        pytest.param(fault(ENVOY, struck=1.0, over=9.0), True, id="over-just-before"),
    ],
)
def test_a_cut_stream_needs_a_reason(struck: Fault, forgiven: bool) -> None:
    assert (History([request(Ending.CUT)], [struck]).violations() == []) is forgiven


def test_without_a_known_server_any_cutting_fault_explains() -> None:
    cut = request(Ending.CUT, server="")
    assert History([cut], [fault("server-1")]).violations() == []
    assert History([cut], [fault()]).violations() != []


def test_a_fault_that_went_wrong_is_a_violation() -> None:
    assert History([], [fault(problem="it did not come back")]).violations() == ["fault : it did not come back"]


def test_endings_are_counted_by_kind() -> None:
    history = History([request(Ending.ANSWERED), request(Ending.ANSWERED), request(Ending.CUT)], [])
    assert history.endings() == {"short stream": {"answered": 2, "cut": 1}}


def life(name: str, memory: list[float], files: list[int] | None = None) -> Life:
    moments = [30.0 * n for n in range(len(memory))]
    return Life(name, 1, moments, memory, files or [10] * len(memory))


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        pytest.param(life("picker", [50.0, 90.0, *[100.0] * 20]), 0, id="warms-up"),
        pytest.param(life("picker", [50.0 + 10 * n for n in range(20)]), 1, id="grows"),
        pytest.param(life("picker", [50.0, 900.0, 50.0]), 1, id="too-much-once"),
        pytest.param(life("picker", [50.0] * 20, list(range(10, 210, 10))), 1, id="files-grow"),
        pytest.param(life("server-0", [50.0 + 10 * n for n in range(20)]), 0, id="not-ours"),
        pytest.param(life("picker", [50.0, 90.0, 130.0]), 0, id="too-short-to-judge"),
    ],
)
def test_growth(given: Life, problems: int) -> None:
    assert len(given.problems()) == problems


def test_the_slope_is_per_hour() -> None:
    assert slope([0.0, 1800.0, 3600.0], [1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert slope([1.0], [1.0]) == slope([1.0, 1.0], [1.0, 2.0]) == 0.0
