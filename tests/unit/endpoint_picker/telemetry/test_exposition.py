"""The metrics page has two forms; the plain one is what it always was, the other one is strict and has exemplars."""

import re
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics
from endpoint_picker.domain.trace_context import TraceContext
from endpoint_picker.domain.usage import Usage
from endpoint_picker.telemetry.metrics import PickerMetrics
from endpoint_picker.telemetry.span_queue import SpanOutcome

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
COMPLETED = CompletedRequest(
    model="m",
    target_model="m",
    status=200,
    address="a:1",
    attempts=1,
    streaming=True,
    usage=Usage(10, 3, 13, 2),
    ttft_seconds=0.3,
    duration_seconds=1.2,
    body_seconds=0.9,
    trace=TraceContext(TRACE, "00f067aa0ba902b7", 1),
)


@pytest.fixture
def metrics() -> PickerMetrics:
    """Metrics of which every family has a sample."""
    endpoint = Endpoint("a:1", "pod", metrics=EndpointMetrics("vllm", 1, 1, 0.5))
    metrics = PickerMetrics(clock=lambda: 1.0, pools=lambda: {"p": (endpoint,)})
    metrics.set_models(["m"])
    metrics.record_end(metrics.record_begin("m"))
    metrics.record_completion(COMPLETED)
    metrics.record_error("m", "m", 'a"b\\c\nd')
    metrics.record_attempt(Attempt("r", "a:1", 503, first_byte_seconds=0.1))
    metrics.record_scheduling(0.001, "m", endpoint, {"trace_id": TRACE})
    metrics.record_prefix_hit(0.5)
    metrics.record_scrape_error("a:1", "timeout")
    metrics.record_spans(SpanOutcome.EXPORTED, 3)
    return metrics


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        pytest.param("", "text/plain", id="nothing"),
        pytest.param("*/*", "text/plain", id="anything"),
        pytest.param("text/plain", "text/plain", id="text"),
        pytest.param("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain", id="a-browser"),
        pytest.param(PROMETHEUS, "application/openmetrics-text", id="prometheus"),
        pytest.param("Application/OpenMetrics-Text", "application/openmetrics-text", id="any-case"),
        pytest.param("application/openmetrics-text;q=0", "text/plain", id="refused"),
        pytest.param("application/openmetrics-text;q=0.1,text/plain;q=0.9", "text/plain", id="less-welcome"),
        pytest.param("application/openmetrics-text;q=x", "text/plain", id="no-number"),
        pytest.param("application/openmetrics-text;version=9.9;q=1", "application/openmetrics-text", id="version"),
    ],
)
def test_the_form_is_negotiated(metrics: PickerMetrics, accept: str, form: str) -> None:
    page = metrics.page(accept)
    assert page.content_type.partition(";")[0] == form
    assert page.body.endswith(b"# EOF\n") is (form == "application/openmetrics-text")


def test_both_forms_have_the_same_samples(metrics: PickerMetrics) -> None:
    def samples(read: Callable[[str], object], page: str) -> dict[str, float]:
        return {
            f"{s.name}{sorted(s.labels.items())}": s.value
            for family in read(page)  # type: ignore[attr-defined]
            for s in family.samples
            if not s.name.startswith("process_")
        }

    text = samples(read_text, metrics.page().body.decode())
    strict = samples(read_open_metrics, metrics.page(PROMETHEUS).body.decode())  # refuses names that are not valid
    assert text == strict
    assert not any("_created" in name for name in text)


@pytest.mark.parametrize(
    "family",
    [
        "inference_objective_request_duration_seconds",
        "inference_objective_request_ttft_seconds",
        "inference_objective_request_tpot_seconds",
        "inference_extension_scheduler_e2e_duration_seconds",
    ],
)
def test_latencies_name_a_trace(metrics: PickerMetrics, family: str) -> None:
    page = metrics.page(PROMETHEUS).body.decode()
    assert re.search(rf'^{family}_bucket{{.*}} 1\.0 # {{trace_id="{TRACE}"}} ', page, re.MULTILINE)
    assert TRACE not in metrics.page().body.decode()


def test_a_trace_that_is_not_sampled_is_no_exemplar() -> None:
    metrics = PickerMetrics(clock=lambda: 1.0)
    metrics.record_completion(CompletedRequest(trace=TraceContext(TRACE, "00f067aa0ba902b7", 0), status=200))
    assert TRACE not in metrics.page(PROMETHEUS).body.decode()
