"""An endpoint that has left a file stays in it, draining, until requests that were sent to it must have arrived."""

import pytest

from endpoint_picker.datalayer.departing_endpoints import DepartingEndpoints
from envoy_config.clusters import endpoint_file
from envoy_config.fields import Json
from inference_resolution.resolved import ResolvedEndpoint

PATH = "eds/a.json"


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def file_of(*ports: int) -> Json:
    return endpoint_file("default/a:v1", tuple(ResolvedEndpoint("e", "default", "10.0.0.1", port) for port in ports))


def known(content: Json) -> dict[int, str]:
    """Health by port; empty where none is said."""
    (resource,) = content["resources"]  # type: ignore[misc]
    return {
        entry["endpoint"]["address"]["socket_address"]["port_value"]: entry.get("health_status", "")
        for group in resource["endpoints"]
        for entry in group["lb_endpoints"]
    }


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def departing(clock: Time) -> DepartingEndpoints:
    return DepartingEndpoints(clock)


def test_a_file_that_only_grows_is_left_as_it_is(departing: DepartingEndpoints) -> None:
    assert departing.merge(PATH, None, file_of(1)) == file_of(1)
    assert departing.merge(PATH, file_of(1), file_of(1, 2)) == file_of(1, 2)
    assert not departing.overdue


@pytest.mark.parametrize("left", [(1,), ()], ids=["some-left", "all-left"])
def test_what_has_left_drains_and_then_goes(departing: DepartingEndpoints, clock: Time, left: tuple[int, ...]) -> None:
    merged = departing.merge(PATH, file_of(*left, 2), file_of(*left))
    assert known(merged) == {**dict.fromkeys(left, ""), 2: "DRAINING"}
    assert merged["version_info"] != file_of(*left)["version_info"]
    clock.now += 1.0
    assert departing.merge(PATH, merged, file_of(*left)) == merged
    assert not departing.overdue
    clock.now += 1.0
    assert departing.overdue
    assert departing.merge(PATH, merged, file_of(*left)) == file_of(*left)
    assert not departing.overdue


def test_what_comes_back_is_whole_again(departing: DepartingEndpoints) -> None:
    merged = departing.merge(PATH, file_of(1), file_of(2))
    again = departing.merge(PATH, merged, file_of(1))
    assert known(again) == {1: "", 2: "DRAINING"}


def test_staying_is_not_prolonged_by_further_edits(departing: DepartingEndpoints, clock: Time) -> None:
    merged = departing.merge(PATH, file_of(1), file_of(2))
    clock.now += 1.5
    merged = departing.merge(PATH, merged, file_of(3))
    assert known(merged) == {1: "DRAINING", 2: "DRAINING", 3: ""}
    clock.now += 1.0
    assert known(departing.merge(PATH, merged, file_of(3))) == {2: "DRAINING", 3: ""}


def test_a_file_that_is_gone_is_forgotten(departing: DepartingEndpoints, clock: Time) -> None:
    departing.merge(PATH, file_of(1), file_of())
    departing.forget(PATH)
    clock.now += 10.0
    assert not departing.overdue
