"""For each alert: a history of samples that makes it fire, what it then says, and histories on which it keeps quiet.

Histories are in the notation of ``promtool test rules``, a sample a minute; ``{}`` stands for the labels of a gateway.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GATEWAY = 'job="inference-gateway",instance="gw:9090"'
ENVOY = 'job="inference-gateway-envoy",instance="gw:9090"'

_MODELS = 'model_name="m",target_model_name="m"'
_POOL = 'pool="default/p:v1"'
_ENDPOINT = 'endpoint="10.0.0.1:80"'

History = Mapping[str, str]
"""Samples by series."""


@dataclass(frozen=True, slots=True)
class Case:
    """One alert.

    Attributes:
        at: When it is looked at.
        fires: A history that makes it fire then.
        summary: What it says then.
        labels: Its labels beside job and severity.
        quiet: Histories on which it does not fire then.
    """

    at: str
    fires: History
    summary: str
    labels: Mapping[str, str]
    quiet: Sequence[History]


def _of(name: str, labels: str = "", gateway: str = GATEWAY) -> str:
    return f"{name}{{{gateway}{',' if labels else ''}{labels}}}"


def _requests(a_minute: float, failed: float = 0.0, code: str = "500") -> History:
    total = _of("inference_objective_request_total", f'{_MODELS},priority="0"')
    errors = _of("inference_objective_request_error_total", f'{_MODELS},error_code="{code}"')
    return {total: f"0+{a_minute:g}x400"} | ({errors: f"0+{failed:g}x400"} if failed else {})


def _first_tokens(within_ten_seconds: int) -> History:
    def bucket(bound: str) -> str:
        return _of("inference_objective_request_ttft_seconds_bucket", f'{_MODELS},le="{bound}"')

    return {bucket("10"): f"0+{within_ten_seconds}x30", bucket("20"): "0+600x30", bucket("+Inf"): "0+600x30"}


def _constant(name: str, labels: str, value: float) -> History:
    return {_of(name, labels): f"{value:g}x30"}


_PICKER = {_of("inference_extension_info", 'commit="",build_ref="1"'): "1x400"}
_AT = {"instance": "gw:9090"}
_IN_POOL = {**_AT, "name": "default/p:v1"}
_STARTED = "process_start_time_seconds"
_CPU = "process_cpu_seconds_total"
_PAGE_ERRORS = _of("inference_gateway_scrape_errors_total", f'{_ENDPOINT},reason="timeout"')
_FAILOVERS = _of("inference_gateway_failovers_total")
_SPANS = "inference_gateway_trace_spans_total"
_HEAP = _of("envoy_overload_envoy_resource_monitors_fixed_heap_pressure", gateway=ENVOY)

CASES: Mapping[str, Case] = {
    "InferenceGatewayErrorBudgetBurnsFast": Case(
        "70m",
        _requests(60, failed=12),
        "20% of requests to inference-gateway fail",
        {},
        [_requests(60), _requests(60, failed=0.6), _requests(60, failed=30, code="404"), _requests(0.06, failed=0.06)],
    ),
    "InferenceGatewayErrorBudgetBurnsSlowly": Case(
        "390m",
        _requests(60, failed=3),
        "5% of requests to inference-gateway fail",
        {},
        [_requests(60), _requests(60, failed=1.2), _requests(60, failed=30, code="429")],
    ),
    "InferenceGatewayFirstTokenLate": Case(
        "20m",
        {**_requests(60), **_first_tokens(0)},
        "m takes 19.5s to its first token (p95)",
        {"model_name": "m"},
        [{**_requests(60), **_first_tokens(600)}, _first_tokens(0)],
    ),
    "InferenceGatewayPoolEmpty": Case(
        "10m",
        {_of("inference_pool_ready_pods", 'name="default/p:v1"'): "2 2 0x30"},
        "The pool default/p:v1 has no ready endpoint",
        _IN_POOL,
        [_constant("inference_pool_ready_pods", 'name="default/p:v1"', 1)],
    ),
    "InferenceGatewayPoolEjected": Case(
        "10m",
        _constant("inference_gateway_pool_ejected_share", _POOL, 0.5),
        "50% of the pool default/p:v1 get no requests",
        {**_AT, "pool": "default/p:v1"},
        [_constant("inference_gateway_pool_ejected_share", _POOL, 0.4)],
    ),
    "InferenceGatewayEndpointEjected": Case(
        "15m",
        _constant("inference_gateway_endpoint_circuit_state", f"{_POOL},{_ENDPOINT}", 2),
        "10.0.0.1:80 of default/p:v1 gets no requests",
        {**_AT, "pool": "default/p:v1", "endpoint": "10.0.0.1:80"},
        [{_of("inference_gateway_endpoint_circuit_state", f"{_POOL},{_ENDPOINT}"): "0 1 2 1 0x30"}],
    ),
    "InferenceGatewayFailovers": Case(
        "20m",
        {**_requests(60), _FAILOVERS: "0+6x30"},
        "10% of requests to inference-gateway need a second endpoint",
        {},
        [{**_requests(60), _FAILOVERS: "0+1x30"}, {_FAILOVERS: "0+6x30"}],
    ),
    "InferenceGatewayPoolSaturated": Case(
        "15m",
        _constant("inference_pool_average_queue_size", 'name="default/p:v1"', 25),
        "25 requests wait in each model server of default/p:v1",
        _IN_POOL,
        [_constant("inference_pool_average_queue_size", 'name="default/p:v1"', 3)],
    ),
    "InferenceGatewayKvCacheFull": Case(
        "15m",
        _constant("inference_pool_average_kv_cache_utilization", 'name="default/p:v1"', 0.97),
        "KV caches of default/p:v1 are 97% full",
        _IN_POOL,
        [_constant("inference_pool_average_kv_cache_utilization", 'name="default/p:v1"', 0.9)],
    ),
    "InferenceGatewayMetricsPageUnusable": Case(
        "20m",
        {_PAGE_ERRORS: "0+12x30"},
        "The metrics page of 10.0.0.1:80 cannot be used: timeout",
        {"endpoint": "10.0.0.1:80", "reason": "timeout"},
        [{_PAGE_ERRORS: "0+1x30"}],
    ),
    "InferenceGatewayMetricsStale": Case(
        "10m",
        {_of("inference_gateway_scrape_age_seconds", f"{_POOL},{_ENDPOINT}"): "0+60x30"},
        "What is known of 10.0.0.1:80 is 10m 0s old",
        {**_AT, "pool": "default/p:v1", "endpoint": "10.0.0.1:80"},
        [_constant("inference_gateway_scrape_age_seconds", f"{_POOL},{_ENDPOINT}", 1)],
    ),
    "InferenceGatewayGone": Case("10m", {'up{job="other"}': "1x30"}, "No endpoint picker is scraped", {}, [_PICKER]),
    "InferenceGatewayPickerRestarts": Case(
        "10m",
        {**_PICKER, _of(_STARTED): "1 2 3 4 4x30"},
        "The endpoint picker of gw:9090 was started 3 times within 15 minutes",
        _AT,
        [{**_PICKER, _of(_STARTED): "1 2 2x30"}, {_of(_STARTED): "1 2 3 4 4x30"}],
    ),
    "InferenceGatewayConfigurationRefused": Case(
        "10m",
        {_of("inference_gateway_config_last_load_success"): "1 0x30"},
        "The last edit of the manifests of gw:9090 was refused",
        _AT,
        [_constant("inference_gateway_config_last_load_success", "", 1)],
    ),
    "InferenceGatewayLedgerDrifts": Case(
        "15m",
        _constant("inference_gateway_ledger_drift_requests", _ENDPOINT, -20),
        "The ledger counts 20 requests at 10.0.0.1:80 wrong",
        {**_AT, "endpoint": "10.0.0.1:80"},
        [_constant("inference_gateway_ledger_drift_requests", _ENDPOINT, 3)],
    ),
    "InferenceGatewayLedgerNotAudited": Case(
        "15m",
        _constant("inference_gateway_ledger_last_audit_timestamp_seconds", "", 0),
        "The ledger of gw:9090 has not been audited for 15m 0s",
        _AT,
        [{_of("inference_gateway_ledger_last_audit_timestamp_seconds"): "0+60x30"}],
    ),
    "InferenceGatewayAccessLogMalformed": Case(
        "10m",
        {_of("inference_gateway_access_log_malformed_total"): "0 0 2x30"},
        "Reports of Envoy to the picker of gw:9090 cannot be read",
        _AT,
        [_constant("inference_gateway_access_log_malformed_total", "", 2)],
    ),
    "InferenceGatewayPickerBusy": Case(
        "20m",
        {**_PICKER, _of(_CPU): "0+57x30"},
        "The picker of gw:9090 uses 95% of a core",
        _AT,
        [{**_PICKER, _of(_CPU): "0+30x30"}, {_of(_CPU): "0+59x30"}],
    ),
    "InferenceGatewayFilesRunOut": Case(
        "10m",
        {**_PICKER, _of("process_open_fds"): "900x30", _of("process_max_fds"): "1000x30"},
        "The picker of gw:9090 has 90% of its files open",
        _AT,
        [{**_PICKER, _of("process_open_fds"): "100x30", _of("process_max_fds"): "1000x30"}],
    ),
    "InferenceGatewayEnvoyMemoryShort": Case(
        "10m", {_HEAP: "93x30"}, "Envoy of gw:9090 uses 93 % of its memory", _AT, [{_HEAP: "60x30"}]
    ),
    "InferenceGatewaySpansLost": Case(
        "25m",
        {_of(_SPANS, 'outcome="dropped"'): "0+6x30"},
        "gw:9090 loses 0.1 spans a second (dropped)",
        {**_AT, "outcome": "dropped"},
        [{_of(_SPANS, 'outcome="exported"'): "0+600x30", _of(_SPANS, 'outcome="failed"'): "0x30"}],
    ),
}
