"""``igw status --watch`` keeps in sight what was last known, says how old it is, and tells speeds from two looks."""

import json
from typing import Any

import pytest
from rich.console import Console

from igw.picker_state import parse_state
from igw.status_watch import Watch

ADDRESS = "10.0.0.1:8000"


def page(requests: int = 0, *, uptime: float = 10.0, **endpoint: Any) -> bytes:
    endpoints = [{"address": ADDRESS, "requests_total": requests, "in_flight": 3, **endpoint}]
    pools = [{"name": "default/p:v1", "endpoints": endpoints}, {"name": "default/empty:v1"}]
    return json.dumps(
        {"version": "9.9", "uptime_seconds": uptime, "synced": True, "pools": pools, "problems": ["p is odd"]}
    ).encode()


def answer(watch: Watch, document: bytes, now: float) -> None:
    watch.answered(document, parse_state(document), now)


def seen(watch: Watch, now: float = 0.0) -> str:
    console = Console(width=80, record=True, file=None, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(watch.frame(now, wide=False))
    return capture.get()


def test_a_frame_shows_gateway_pools_endpoints_and_problems() -> None:
    watch = Watch()
    answer(watch, page(metrics={"waiting_queue_size": 7, "kv_cache_utilization": 0.5}, tokens_per_second=120.4), 1.0)
    text = seen(watch)
    for part in ("Inference Gateway 9.9", "p is odd", "default/p:v1", ADDRESS, " 7 ", " 50 ", "120", "no endpoints"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_circuit_that_is_open_says_why() -> None:
    watch = Watch()
    answer(watch, page(circuit={"state": "open", "reason": "silent", "until_seconds": 4.2}), 1.0)
    assert "is open for 4 s more: nothing came from it" in seen(watch)


@pytest.mark.parametrize(
    ("requests", "uptime", "rate"),
    [
        pytest.param(130, 12.0, {ADDRESS: 15.0}, id="thirty-in-two-seconds"),
        pytest.param(100, 12.0, {ADDRESS: 0.0}, id="none"),
        pytest.param(5, 1.0, {}, id="a-picker-that-was-started-again"),
        pytest.param(90, 12.0, {ADDRESS: 0.0}, id="counts-went-back"),
    ],
)
def test_speed_is_what_was_added_between_two_looks(requests: int, uptime: float, rate: dict[str, float]) -> None:
    watch = Watch()
    answer(watch, page(100), 1.0)
    assert watch.rates == {}
    answer(watch, page(requests, uptime=uptime), 3.0)
    assert watch.rates == rate


def test_a_gateway_that_is_not_there_yet_is_waited_for() -> None:
    watch = Watch()
    watch.missed("nobody is there")
    assert seen(watch) == "waiting: nobody is there\n"


def test_a_gateway_that_goes_away_stays_in_sight_and_comes_back() -> None:
    watch = Watch()
    answer(watch, page(), 1.0)
    watch.missed("nobody is there")
    text = seen(watch, 8.0)
    assert "no answer for 7 s: nobody is there" in text
    assert ADDRESS in text
    assert watch.page == b""
    answer(watch, page(), 9.0)
    assert "no answer" not in seen(watch, 9.0)
