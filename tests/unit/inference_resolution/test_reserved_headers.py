"""A route's header filters never touch the headers that steer the gateway itself."""

import pytest

from inference_api.http_route_filter import HTTPRouteFilter
from inference_resolution.filters import header_change, reserved_headers
from inference_resolution.resolved import HeaderChange


def modifier(**parts: object) -> HTTPRouteFilter:
    return HTTPRouteFilter.model_validate({"type": "RequestHeaderModifier", "requestHeaderModifier": parts})


@pytest.mark.parametrize(
    "name",
    [
        "X-Gateway-Cluster",
        "x-gateway-route",
        "x-gateway-destination-endpoint",
        "x-llm-d-destination-endpoint-subset",
        "x-gateway-stream-id",
        "X-Envoy-Max-Retries",
        "x-prefiller-host-port",
        "x-data-parallel-host-port",
    ],
)
def test_reserved(name: str) -> None:
    filters = [modifier(set=[{"name": name, "value": "v"}, {"name": "X-Mine", "value": "v"}], remove=[name])]
    assert header_change(filters, "request_header_modifier") == HeaderChange(set=(("x-mine", "v"),))
    assert reserved_headers(filters) == [name]


@pytest.mark.parametrize("name", ["x-gateway-inference-objective", "x-team", "x-encoding"])
def test_free(name: str) -> None:
    filters = [modifier(add=[{"name": name, "value": "v"}])]
    assert header_change(filters, "request_header_modifier") == HeaderChange(add=((name, "v"),))
    assert reserved_headers(filters) == []
