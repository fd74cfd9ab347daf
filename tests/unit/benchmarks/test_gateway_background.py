"""What is used without requests is split into a cost per second and one per page, and taken off what a pass used."""

import pytest
from benchmarks.gateway.arms import ALONE, CONSTANT, ENVOY, GATEWAY, PICKER, Use
from benchmarks.gateway.background import Background, Window, fit


def window(*, picker: float, pages: int, busy: bool, seconds: float = 10.0) -> Window:
    use = Use(seconds, {PICKER: picker, ENVOY: 0.05}, pages)
    return Window(busy, {GATEWAY: use, CONSTANT: use, ALONE: Use(seconds, {ENVOY: 0.01}, pages)})


IDLE, BUSY = window(picker=0.06, pages=80, busy=False), window(picker=0.22, pages=400, busy=True)


def test_two_kinds_of_windows_tell_pages_from_seconds() -> None:
    found = fit([IDLE, BUSY], GATEWAY)
    assert found.picker_per_page == pytest.approx(0.0005)
    assert found.picker_per_second == pytest.approx(0.002)
    assert found.envoy_per_second == pytest.approx(0.005)


def test_the_windows_themselves_are_left_with_nothing() -> None:
    found = fit([IDLE, BUSY], GATEWAY)
    for one in (IDLE, BUSY):
        assert found.of(PICKER, one.uses[GATEWAY]) == pytest.approx(one.uses[GATEWAY].cpu_seconds[PICKER])
        assert found.of(ENVOY, one.uses[GATEWAY]) == pytest.approx(0.05)


def test_only_the_gateway_reads_pages_so_others_have_a_cost_per_second_alone() -> None:
    assert fit([IDLE, BUSY], CONSTANT) == Background(pytest.approx(0.014), 0.0, pytest.approx(0.005))
    assert fit([IDLE, BUSY], ALONE) == Background(0.0, 0.0, pytest.approx(0.001))


@pytest.mark.parametrize(
    "windows",
    [
        pytest.param([IDLE], id="one-kind-of-window"),
        pytest.param([window(picker=0.01, pages=80, busy=False), BUSY], id="seconds-would-be-negative"),
        pytest.param([window(picker=0.3, pages=80, busy=False), BUSY], id="pages-would-be-negative"),
    ],
)
def test_costs_are_never_negative(windows: list[Window]) -> None:
    found = fit(windows, GATEWAY)
    assert found.picker_per_page >= 0
    assert found.picker_per_second >= 0
    assert found.picker_per_page + found.picker_per_second > 0


def test_without_windows_nothing_is_taken_off() -> None:
    assert fit([], GATEWAY) == Background()
