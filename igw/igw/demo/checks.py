"""What must be true at the end of the demo."""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from igw.demo.outcomes import Tally
from igw.demo.servers import DemoServer
from igw.picker_state import PickerState

_OUTPUT_TOKENS = "inference_objective_output_tokens"
_FEWEST_REQUESTS = 10


def check_requests(tally: Tally, models: Iterable[str]) -> list[str]:
    """Return what is wrong with the answers that clients got."""
    wrong = [f"request failed: {failure}" for failure in tally.failures()]
    wrong += [
        f"only {tally.ok[model]} requests for {model} were answered"
        for model in models
        if tally.ok[model] < _FEWEST_REQUESTS
    ]
    return wrong


def check_models(listed: Sequence[str], models: Iterable[str]) -> list[str]:
    """Return the models that the gateway should list and does not."""
    return [f"model {model} is not listed at /v1/models" for model in models if model not in listed]


def check_endpoints(state: PickerState, servers: Iterable[DemoServer]) -> list[str]:
    """Return what is wrong with the endpoints: missing, without traffic, or with work that never ended."""
    endpoints = {endpoint.address: endpoint for endpoint in state.endpoints}
    wrong = []
    for server in servers:
        endpoint = endpoints.get(str(server.at))
        if endpoint is None:
            wrong.append(f"server {server.name} ({server.at}) is no endpoint of the gateway")
        elif endpoint.requests_total == 0:
            wrong.append(f"server {server.name} ({server.at}) got no request")
        elif endpoint.in_flight:
            wrong.append(f"server {server.name} ({server.at}) still counts {endpoint.in_flight} requests in flight")
    return wrong


def check_usage(metrics_page: str, models: Iterable[str]) -> list[str]:
    """Return the models whose tokens the metrics do not count."""
    counted = tokens_by_model(metrics_page)
    return [f"the metrics count no tokens for {model}" for model in models if not counted.get(model)]


def tokens_by_model(metrics_page: str) -> Mapping[str, float]:
    """Return the completion tokens that the metrics count, by model."""
    counted: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics_page):
        for sample in family.samples:
            if sample.name == f"{_OUTPUT_TOKENS}_sum":
                model = sample.labels.get("model_name", "")
                counted[model] = counted.get(model, 0.0) + sample.value
    return counted
