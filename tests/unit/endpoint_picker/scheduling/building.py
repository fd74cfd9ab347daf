"""Builds endpoints and requests for the tests of scheduling, with as few words as possible."""

from typing import Any

from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics, NoInFlight
from endpoint_picker.domain.request import InferenceRequest

REQUEST = InferenceRequest(request_id="r", model="base", target_model="base")


def endpoint(
    address: str = "10.0.0.1:8000",
    *,
    labels: dict[str, str] | None = None,
    requests: int = 0,
    prompt_tokens: int = 0,
    total_tokens: int = 0,
    prefill_backlog_tokens: float = 0.0,
    scraped: bool = True,
    **reading: Any,
) -> Endpoint:
    """Return an endpoint whose reading was taken with the in-flight work it has now, unless said otherwise."""
    reading.setdefault("in_flight_when_read", requests)
    return Endpoint(
        address=address,
        labels=labels or {},
        metrics=EndpointMetrics(**reading) if scraped else None,
        in_flight=NoInFlight(requests, prompt_tokens, total_tokens, prefill_backlog_tokens),
    )


def endpoints(count: int) -> list[Endpoint]:
    """Return endpoints that differ in their address only."""
    return [endpoint(f"10.0.0.{number}:8000") for number in range(1, count + 1)]
