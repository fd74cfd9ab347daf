"""``igw status`` reads what a picker says, shows dashes for the unknown, and keeps to 80 columns."""

import json

import pytest
from rich.console import Console

from igw.errors import CommandFailed
from igw.picker_state import EndpointState, parse_state
from igw.status import endpoint_table, number, percent, seconds

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
            "healthy": False,
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
        "ejected",
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
