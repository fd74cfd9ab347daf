"""``igw status`` reads what a picker says, shows dashes for the unknown, and keeps to 80 columns."""

import json

import pytest
from rich.console import Console

from endpoint_picker.domain.circuit import CircuitReason
from igw.errors import CommandFailed
from igw.picker_state import EndpointState, parse_state
from igw.status import circuit_lines, endpoint_table, number, percent, seconds

PAGE = {
    "version": "0.1.0",
    "uptime_seconds": 7.0,
    "synced": True,
    "configuration": {"accepted": False, "error": "a.yaml:3: bad", "loaded_at": 1.5},
    "models": [{"name": "m", "pool": "default/p:v1", "targets": ["t"], "priority": 1}],
    "pools": [
        {
            "name": "default/p:v1",
            "failure_mode": "FailClose",
            "endpoints": [{"address": "10.0.0.1:8000", "metrics": None, "unknown_field": 1}],
        }
    ],
    "problems": [],
    "later_version_says": {},
}


def test_a_state_is_read_and_what_is_unknown_left_aside() -> None:
    state = parse_state(json.dumps(PAGE).encode())
    assert state.configuration.error == "a.yaml:3: bad"
    assert state.models[0].pool_name == "default/p"
    assert state.pools[0].short_name == "default/p"
    assert [endpoint.address for endpoint in state.endpoints] == ["10.0.0.1:8000"]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="no-json"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b'{"pools": [{"endpoints": []}]}', id="pool-without-name"),
        pytest.param(b'{"uptime_seconds": "long"}', id="wrong-type"),
    ],
)
def test_another_page_is_no_state(page: bytes) -> None:
    with pytest.raises(CommandFailed, match="not the state of an endpoint picker") as caught:
        parse_state(page)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(number(None), "-", id="unknown-number"),
        pytest.param(number(12.6), "13", id="number"),
        pytest.param(percent(None), "-", id="unknown-share"),
        pytest.param(percent(0.256), "26", id="share"),
        pytest.param(seconds(None), "-", id="unknown-time"),
        pytest.param(seconds(0.0421), "42 ms", id="milliseconds"),
        pytest.param(seconds(12.34), "12.3 s", id="seconds"),
    ],
)
def test_values(shown: str, expected: str) -> None:
    assert shown == expected


def test_the_table_fits_80_columns_with_busy_endpoints() -> None:
    endpoint = EndpointState.model_validate(
        {
            "address": "127.0.0.1:65535",
            "healthy": True,
            "circuit": {"state": "half-open", "reason": "failures"},
            "in_flight": 1234,
            "metrics": {"waiting_queue_size": 1234, "kv_cache_utilization": 1.0},
            "requests_total": 1234567,
            "ttft_p50_seconds": 0.999,
            "ttft_p90_seconds": 12.3,
            "tokens_per_second": 12345.6,
        }
    )
    console = Console(width=80, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(endpoint_table((endpoint,), wide=False))
    header, row = capture.get().splitlines()
    assert len(header) <= 80
    assert row.split() == [
        "127.0.0.1:65535",
        "probing",
        "1234567",
        "1234",
        "1234",
        "100",
        "999",
        "ms",
        "12.3",
        "s",
        "12346",
    ]


@pytest.mark.parametrize(
    ("circuit", "line"),
    [
        pytest.param(None, None, id="of-an-older-picker"),
        pytest.param({"state": "closed", "reason": None}, None, id="closed"),
        pytest.param(
            {"state": "open", "reason": "error-share", "until_seconds": 12.4},
            "  10.0.0.1:8000 is open for 12 s more: too many of the recent attempts failed",
            id="open",
        ),
        pytest.param(
            {"state": "half-open", "reason": "silent", "until_seconds": None},
            "  10.0.0.1:8000 is half-open: nothing came from it in the time an attempt has",
            id="half-open",
        ),
        pytest.param({"state": "open", "reason": "later"}, "  10.0.0.1:8000 is open: later", id="of-a-later-picker"),
    ],
)
def test_a_line_says_why_an_endpoint_is_left_alone(circuit: dict[str, object] | None, line: str | None) -> None:
    endpoint = EndpointState.model_validate({"address": "10.0.0.1:8000", "circuit": circuit})
    assert list(circuit_lines((endpoint,))) == ([] if line is None else [line])


@pytest.mark.parametrize("reason", list(CircuitReason))
def test_every_reason_of_the_picker_has_words(reason: CircuitReason) -> None:
    circuit = {"state": "open", "reason": reason.value}
    (line,) = circuit_lines((EndpointState.model_validate({"address": "a:1", "circuit": circuit}),))
    assert not line.endswith(reason.value)
