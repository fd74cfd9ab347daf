"""Connections never need more files than the process may open, and there is always room for some."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.config.open_files import ConnectionRoom, connection_room, open_file_limit


@pytest.mark.parametrize(
    ("wanted", "open_files", "room"),
    [
        pytest.param(20_000, 1_000_000, ConnectionRoom(20_000, 979_488), id="enough"),
        pytest.param(20_000, 20_000, ConnectionRoom(9_744, 9_744), id="half"),
        pytest.param(20_000, 1_024, ConnectionRoom(256, 256), id="few"),
        pytest.param(20_000, 10, ConnectionRoom(64, 64), id="fewest"),
        pytest.param(5, 1_024, ConnectionRoom(5, 507), id="wanted-is-less"),
    ],
)
def test_room(wanted: int, open_files: int, room: ConnectionRoom) -> None:
    assert connection_room(wanted, open_files) == room


@given(st.integers(1, 10**6), st.integers(700, 10**6))
def test_both_sides_fit(wanted: int, open_files: int) -> None:
    room = connection_room(wanted, open_files)
    assert room.clients <= wanted
    assert room.clients + room.model_servers < open_files


def test_this_process_has_a_limit() -> None:
    assert 0 < open_file_limit() <= 1_000_000
