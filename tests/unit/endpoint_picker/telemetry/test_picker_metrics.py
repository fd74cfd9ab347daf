"""The picker exports exactly the names listed here, counts what it is told, and never labels with a client's words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics, NoInFlight
from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.audit import AuditReport
from endpoint_picker.telemetry.metrics import AttemptOutcome, PickerMetrics, outcome_of

EXPORTED = {
    "inference_objective_request",
    "inference_objective_request_error",
    "inference_objective_running_requests",
    "inference_objective_request_duration_seconds",
    "inference_objective_request_sizes",
    "inference_objective_response_sizes",
    "inference_objective_input_tokens",
    "inference_objective_output_tokens",
    "inference_objective_prompt_cached_tokens",
    "inference_objective_normalized_time_per_output_token_seconds",
    "inference_objective_request_ttft_seconds",
    "inference_objective_request_tpot_seconds",
    "inference_pool_average_kv_cache_utilization",
    "inference_pool_average_queue_size",
    "inference_pool_average_running_requests",
    "inference_pool_ready_pods",
    "inference_pool_per_pod_queue_size",
    "inference_extension_scheduler_e2e_duration_seconds",
    "inference_extension_scheduler_attempts",
    "inference_extension_prefix_indexer_size",
    "inference_extension_prefix_indexer_hit_ratio",
    "inference_extension_info",
    "inference_gateway_in_flight_requests",
    "inference_gateway_kv_cache_utilization",
    "inference_gateway_scrape_age_seconds",
    "inference_gateway_scrape_errors",
    "inference_gateway_attempts",
    "inference_gateway_attempt_first_byte_seconds",
    "inference_gateway_failovers",
    "inference_gateway_circuit_transitions",
    "inference_gateway_endpoint_circuit_state",
    "inference_gateway_pool_ejected_share",
    "inference_gateway_ledger_expired",
    "inference_gateway_ledger_unknown_releases",
    "inference_gateway_ledger_audits",
    "inference_gateway_ledger_corrected_requests",
    "inference_gateway_ledger_last_audit_timestamp_seconds",
    "inference_gateway_ledger_drift_requests",
    "inference_gateway_ledger_correction_requests",
    "inference_gateway_access_log_malformed",
    "inference_gateway_config_rejected",
    "inference_gateway_config_version",
    "inference_gateway_config_last_load_success",
    "inference_gateway_trace_spans",
    *(f"process_{name}" for name in ("virtual_memory_bytes", "resident_memory_bytes", "start_time_seconds")),
    *(f"process_{name}" for name in ("cpu_seconds", "open_fds", "max_fds")),
}

ADDRESS = "10.0.0.7:8000"
COMPLETED = CompletedRequest(
    model="chat",
    target_model="chat-v1",
    status=200,
    attempts=2,
    address=ADDRESS,
    priority=1,
    streaming=True,
    usage=Usage(prompt_tokens=100, completion_tokens=21, cached_tokens=64),
    ttft_seconds=0.3,
    duration_seconds=4.2,
    body_seconds=4.0,
    request_bytes=900,
    response_bytes=5000,
)
TARGETS = {"model_name": "chat", "target_model_name": "chat-v1"}


class Pools:
    """Pools of a test, changed in place."""

    def __init__(self, **pools: Sequence[Endpoint]) -> None:
        self.pools: Mapping[str, Sequence[Endpoint]] = pools

    def __call__(self) -> Mapping[str, Sequence[Endpoint]]:
        return self.pools


def picker_metrics(pools: Pools | None = None) -> PickerMetrics:
    metrics = PickerMetrics(clock=lambda: 100.0, pools=pools or Pools(), commit="abc", build_ref="v1")
    metrics.set_models(["chat", "chat-v1"])
    return metrics


def families(metrics: PickerMetrics) -> set[str]:
    return {family.name for family in text_string_to_metric_families(metrics.render().decode())}


def samples(metrics: PickerMetrics, name: str) -> list[tuple[dict[str, str], float]]:
    parsed = text_string_to_metric_families(metrics.render().decode())
    return [(sample.labels, sample.value) for family in parsed for sample in family.samples if sample.name == name]


def test_exported_names_are_those_listed() -> None:
    metrics = picker_metrics()
    metrics.record_completion(COMPLETED)
    assert families(metrics) == EXPORTED


def test_names_on_the_wire_are_those_of_the_inference_extension() -> None:
    metrics = picker_metrics()
    metrics.record_completion(COMPLETED)
    page = metrics.render()
    assert b"\ninference_objective_request_total{" in page
    assert b"\ninference_objective_request_duration_seconds_bucket{" in page
    assert b'inference_extension_info{build_ref="v1",commit="abc"} 1.0' in page
    assert b"_created" not in page


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("request_duration_seconds", 4.2, id="duration"),
        pytest.param("request_sizes", 900, id="request-bytes"),
        pytest.param("response_sizes", 5000, id="response-bytes"),
        pytest.param("input_tokens", 100, id="input"),
        pytest.param("output_tokens", 21, id="output"),
        pytest.param("prompt_cached_tokens", 64, id="cached"),
        pytest.param("normalized_time_per_output_token_seconds", 0.2, id="by-all-tokens"),
        pytest.param("request_ttft_seconds", 0.3, id="first-token"),
        pytest.param("request_tpot_seconds", 0.2, id="between-tokens"),
    ],
)
def test_completion_is_measured(name: str, value: float) -> None:
    metrics = picker_metrics()
    metrics.record_completion(COMPLETED)
    assert samples(metrics, f"inference_objective_{name}_sum") == [(TARGETS, pytest.approx(value))]
    assert samples(metrics, f"inference_objective_{name}_count") == [(TARGETS, 1)]


def test_completion_is_counted_with_its_priority_and_failover() -> None:
    metrics = picker_metrics()
    metrics.record_completion(COMPLETED)
    metrics.record_completion(replace(COMPLETED, attempts=1))
    assert samples(metrics, "inference_objective_request_total") == [({**TARGETS, "priority": "1"}, 2)]
    assert samples(metrics, "inference_objective_request_error_total") == []
    assert samples(metrics, "inference_gateway_failovers_total") == [({}, 1)]


def test_unknown_usage_is_not_measured_as_zero() -> None:
    metrics = picker_metrics()
    metrics.record_completion(replace(COMPLETED, usage=Usage(), ttft_seconds=None))
    for name in (
        "input_tokens",
        "output_tokens",
        "prompt_cached_tokens",
        "request_ttft_seconds",
        "request_tpot_seconds",
    ):
        assert samples(metrics, f"inference_objective_{name}_count") == [(TARGETS, 0)]


@pytest.mark.parametrize(
    ("completed", "code"),
    [
        pytest.param(replace(COMPLETED, status=503), "503", id="server-error"),
        pytest.param(replace(COMPLETED, status=429), "429", id="rejected"),
        pytest.param(replace(COMPLETED, flags="UC,DC"), "UC", id="broken-after-a-good-status"),
        pytest.param(replace(COMPLETED, status=0), "0", id="no-answer"),
    ],
)
def test_failure_is_counted_by_code(completed: CompletedRequest, code: str) -> None:
    metrics = picker_metrics()
    metrics.record_completion(completed)
    assert samples(metrics, "inference_objective_request_error_total") == [({**TARGETS, "error_code": code}, 1)]


def test_error_codes_are_bounded() -> None:
    metrics = picker_metrics()
    for code in range(200):
        metrics.record_error("chat", "chat-v1", f"code-{code}")
    counted = samples(metrics, "inference_objective_request_error_total")
    assert len(counted) == 65
    assert sum(value for _, value in counted) == 200


def test_models_a_client_invents_are_one_series() -> None:
    metrics = picker_metrics()
    for index in range(50):
        metrics.record_completion(replace(COMPLETED, model=f"made-up-{index}", target_model=""))
    labels = {"model_name": "other", "target_model_name": "", "priority": "1"}
    assert samples(metrics, "inference_objective_request_total") == [(labels, 50)]


def test_running_requests_return_to_zero_though_the_models_change() -> None:
    metrics = picker_metrics()
    begun = metrics.record_begin("chat")
    assert samples(metrics, "inference_objective_running_requests") == [({"model_name": "chat"}, 1)]
    again = metrics.record_begin("chat")
    metrics.set_models([])
    metrics.record_end(begun)
    metrics.record_end(again)
    assert samples(metrics, "inference_objective_running_requests") == [({"model_name": "chat"}, 0)]


def test_pool_averages_are_over_what_is_known() -> None:
    read = EndpointMetrics(waiting_queue_size=6, running_requests=3, kv_cache_utilization=0.5, read_at=98.0)
    pools = Pools(
        pool=[
            Endpoint("a:1", "pod-a", metrics=read, in_flight=NoInFlight(requests=4)),
            Endpoint("b:1", "pod-b", metrics=replace(read, waiting_queue_size=2, kv_cache_utilization=None)),
            Endpoint("c:1", "pod-c"),
        ],
        empty=[],
    )
    metrics = picker_metrics(pools)
    assert samples(metrics, "inference_pool_average_queue_size") == [({"name": "pool"}, 4)]
    assert samples(metrics, "inference_pool_average_kv_cache_utilization") == [({"name": "pool"}, 0.5)]
    assert samples(metrics, "inference_pool_ready_pods") == [({"name": "pool"}, 3), ({"name": "empty"}, 0)]
    assert [value for _, value in samples(metrics, "inference_pool_per_pod_queue_size")] == [6, 2]
    assert [value for _, value in samples(metrics, "inference_gateway_in_flight_requests")] == [4, 0, 0]
    assert samples(metrics, "inference_gateway_kv_cache_utilization") == [({"pool": "pool", "endpoint": "a:1"}, 0.5)]
    assert [value for _, value in samples(metrics, "inference_gateway_scrape_age_seconds")] == [2, 2]


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        pytest.param(Attempt("r", ADDRESS, 200), AttemptOutcome.ANSWERED, id="answered"),
        pytest.param(Attempt("r", ADDRESS, 404), AttemptOutcome.ANSWERED, id="the-callers-mistake"),
        pytest.param(Attempt("r", ADDRESS, 503), AttemptOutcome.SERVER_ERROR, id="server-error"),
        pytest.param(Attempt("r", ADDRESS, 503, "URX"), AttemptOutcome.SERVER_ERROR, id="server-error-with-a-flag"),
        pytest.param(Attempt("r", ADDRESS, None, "UF"), AttemptOutcome.UNREACHABLE, id="connect-failure"),
        pytest.param(Attempt("r", ADDRESS, None, "UF,UT"), AttemptOutcome.TIMEOUT, id="timeout-goes-first"),
        pytest.param(Attempt("r", ADDRESS, 200, "UC"), AttemptOutcome.BROKEN, id="cut"),
        pytest.param(Attempt("r", ADDRESS, None, "UPE"), AttemptOutcome.BROKEN, id="broke-the-protocol"),
        pytest.param(Attempt("r", ADDRESS), AttemptOutcome.ABANDONED, id="client-left-before-the-answer"),
    ],
)
def test_outcome_of_attempt(attempt: Attempt, outcome: AttemptOutcome) -> None:
    assert outcome_of(attempt) is outcome


@pytest.mark.parametrize("status", [None, 200, 404, 503])
@pytest.mark.parametrize("flags", ["", "UF", "UT"])
def test_an_attempt_without_answer_is_abandoned_exactly_if_the_endpoint_did_not_fail(
    status: int | None, flags: str
) -> None:
    attempt = Attempt("r", ADDRESS, status, flags)
    if attempt.status is None:
        assert (outcome_of(attempt) is AttemptOutcome.ABANDONED) is not attempt.failed
    else:
        assert outcome_of(attempt) is not AttemptOutcome.ABANDONED


def test_attempts_and_scrape_errors_are_counted_by_endpoint() -> None:
    metrics = picker_metrics(Pools(pool=[Endpoint(ADDRESS)]))
    metrics.record_attempt(Attempt("r", ADDRESS, 200, first_byte_seconds=0.5))
    metrics.record_attempt(Attempt("r", ADDRESS, live=True))
    metrics.record_scrape_error(ADDRESS, "timeout")
    assert samples(metrics, "inference_gateway_attempts_total") == [({"endpoint": ADDRESS, "outcome": "answered"}, 1)]
    assert samples(metrics, "inference_gateway_attempt_first_byte_seconds_sum") == [({"endpoint": ADDRESS}, 0.5)]
    assert samples(metrics, "inference_gateway_scrape_errors_total") == [
        ({"endpoint": ADDRESS, "reason": "timeout"}, 1)
    ]


def test_departed_endpoint_is_exported_once_more_and_then_forgotten() -> None:
    pools = Pools(pool=[Endpoint(ADDRESS)])
    metrics = picker_metrics(pools)
    metrics.record_attempt(Attempt("r", ADDRESS, 200, first_byte_seconds=0.5))
    metrics.record_scrape_error(ADDRESS, "timeout")
    metrics.record_scheduling(0.001, "chat-v1", Endpoint(ADDRESS, "pod", "ns"))
    pools.pools = {}
    assert ADDRESS.encode() in metrics.render()
    page = metrics.render()
    assert ADDRESS.encode() not in page
    assert b"pod" not in [word for line in page.splitlines() if b"attempts_total{" in line for word in line.split(b'"')]


def test_scheduling_is_counted_by_result() -> None:
    metrics = picker_metrics(Pools(pool=[Endpoint(ADDRESS)]))
    metrics.record_scheduling(0.0004, "chat-v1", Endpoint(ADDRESS, "pod", "ns"))
    metrics.record_scheduling(0.0004, "nonsense", None)
    counted = [tuple(labels.values()) for labels, _ in samples(metrics, "inference_extension_scheduler_attempts_total")]
    assert {frozenset(values) for values in counted} == {
        frozenset({"success", "chat-v1", "pod", "ns", "8000"}),
        frozenset({"failure", "other", ""}),
    }


def test_configuration_loads_are_told_apart() -> None:
    metrics = picker_metrics()
    metrics.record_configuration(accepted=True)
    metrics.record_configuration(accepted=False)
    assert samples(metrics, "inference_gateway_config_version") == [({}, 1)]
    assert samples(metrics, "inference_gateway_config_rejected_total") == [({}, 1)]
    assert samples(metrics, "inference_gateway_config_last_load_success") == [({}, 0)]


def test_audits_show_what_they_found_at_endpoints_that_are_there() -> None:
    pools = Pools(one=[Endpoint(ADDRESS)], two=[Endpoint(ADDRESS), Endpoint("b:1")])
    metrics = picker_metrics(pools)
    metrics.record_audit("agreed", AuditReport({ADDRESS: 0}), 1000.0)
    metrics.record_audit("differed", AuditReport({ADDRESS: -3, "gone:1": 1}, 2, 5, {ADDRESS: -1}), 2000.0)
    metrics.record_audit("unavailable", None, 3000.0)
    assert samples(metrics, "inference_gateway_ledger_audits_total") == [
        ({"result": "agreed"}, 1),
        ({"result": "differed"}, 1),
        ({"result": "unavailable"}, 1),
    ]
    assert samples(metrics, "inference_gateway_ledger_corrected_requests_total") == [
        ({"direction": "adopted"}, 2),
        ({"direction": "dropped"}, 5),
    ]
    assert samples(metrics, "inference_gateway_ledger_last_audit_timestamp_seconds") == [({}, 2000)]
    assert samples(metrics, "inference_gateway_ledger_drift_requests") == [({"endpoint": ADDRESS}, -3)]
    assert samples(metrics, "inference_gateway_ledger_correction_requests") == [({"endpoint": ADDRESS}, -1)]
    pools.pools = {}
    assert samples(metrics, "inference_gateway_ledger_drift_requests") == []
