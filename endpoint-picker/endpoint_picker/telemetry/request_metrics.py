"""Metrics of requests by model, with the names of the Inference Extension."""

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from endpoint_picker.domain.completion import CompletedRequest
from endpoint_picker.telemetry import buckets
from endpoint_picker.telemetry.histograms import Histogram, HistogramSeries
from endpoint_picker.telemetry.label_values import OTHER, BoundedNames

_MODELS: Final = ("model_name", "target_model_name")
_MAX_PAIRS: Final = 4096
_MAX_CODES: Final = 64


@dataclass(frozen=True, slots=True)
class _ModelSeries:
    """The series of one pair of model and target model, looked up once."""

    model: str
    target_model: str
    duration: HistogramSeries
    request_bytes: HistogramSeries
    response_bytes: HistogramSeries
    input_tokens: HistogramSeries
    output_tokens: HistogramSeries
    cached_tokens: HistogramSeries
    per_request_token: HistogramSeries
    first_token: HistogramSeries
    per_output_token: HistogramSeries
    totals: dict[int | None, Counter]
    errors: dict[str, Counter]


class RequestMetrics:
    """Counts and measures completed requests.

    Args:
        registry: Where the metrics are registered.
        models: Which model names may be label values.
    """

    def __init__(self, registry: CollectorRegistry, models: BoundedNames) -> None:
        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            return Histogram(f"inference_objective_{name}", text, _MODELS, buckets=bounds, registry=registry)

        self._models = models
        self._series: dict[tuple[str, str], _ModelSeries] = {}
        self._codes: set[str] = set()
        self._total = Counter(
            "inference_objective_request_total", "Requests.", (*_MODELS, "priority"), registry=registry
        )
        self._errors = Counter(
            "inference_objective_request_error_total", "Failed requests.", (*_MODELS, "error_code"), registry=registry
        )
        self._running = Gauge(
            "inference_objective_running_requests", "Requests under way.", ("model_name",), registry=registry
        )
        self._running_by_label: dict[str, Gauge] = {}
        self._duration = histogram(
            "request_duration_seconds", "From the start of a request to its end.", buckets.REQUEST_SECONDS
        )
        self._request_bytes = histogram("request_sizes", "Bytes of the request body.", buckets.REQUEST_BYTES)
        self._response_bytes = histogram("response_sizes", "Bytes of the response body.", buckets.RESPONSE_BYTES)
        self._input_tokens = histogram("input_tokens", "Prompt tokens, cached ones included.", buckets.INPUT_TOKENS)
        self._output_tokens = histogram("output_tokens", "Completion tokens.", buckets.OUTPUT_TOKENS)
        self._cached_tokens = histogram(
            "prompt_cached_tokens", "Prompt tokens found in the prefix cache.", buckets.INPUT_TOKENS
        )
        self._per_request_token = histogram(
            "normalized_time_per_output_token_seconds",
            "Duration of a request by its completion tokens.",
            buckets.SECONDS_PER_REQUEST_TOKEN,
        )
        self._first_token = histogram(
            "request_ttft_seconds", "From the start of a request to its first token.", buckets.REQUEST_SECONDS
        )
        self._per_output_token = histogram(
            "request_tpot_seconds", "Mean time between the tokens of a stream.", buckets.SECONDS_PER_OUTPUT_TOKEN
        )

    def begin(self, model: str) -> str:
        """Count a request as under way; return the label it is counted under."""
        label = self._models.fold(model)
        gauge = self._running_by_label.get(label)
        if gauge is None:
            gauge = self._running_by_label[label] = self._running.labels(label)
        gauge.inc()
        return label

    def end(self, label: str) -> None:
        """Count it no more; to be called once per `begin`, with the label that returned."""
        self._running_by_label[label].dec()

    def record(self, completed: CompletedRequest) -> None:
        """Count and measure one request."""
        series = self._of(completed.model, completed.target_model)
        self._count(series, completed.priority)
        if completed.failed or completed.status >= 400:
            self._count_error(series, _error_code(completed))
        trace = completed.trace
        exemplar = {"trace_id": trace.trace_id} if trace is not None and trace.sampled else None
        series.duration.observe(completed.duration_seconds, exemplar)
        series.request_bytes.observe(completed.request_bytes)
        series.response_bytes.observe(completed.response_bytes)
        # an answer that comes as a whole has no first token to see
        if completed.ttft_seconds is not None and completed.status < 400 and completed.streaming is not False:
            series.first_token.observe(completed.ttft_seconds, exemplar)
        usage = completed.usage
        if usage.prompt_tokens is not None:
            series.input_tokens.observe(usage.prompt_tokens)
        if usage.cached_tokens is not None:
            series.cached_tokens.observe(usage.cached_tokens)
        if usage.completion_tokens is not None:
            series.output_tokens.observe(usage.completion_tokens)
            if usage.completion_tokens:
                series.per_request_token.observe(completed.duration_seconds / usage.completion_tokens)
        per_output_token = completed.time_per_output_token_seconds
        if per_output_token is not None:
            series.per_output_token.observe(per_output_token, exemplar)

    def record_error(self, model: str, target_model: str, code: str) -> None:
        """Count the failure of a request that will never be recorded as completed."""
        self._count_error(self._of(model, target_model), code)

    def _count(self, series: _ModelSeries, priority: int | None) -> None:
        counter = series.totals.get(priority)
        if counter is None:
            text = "" if priority is None else str(priority)
            counter = self._total.labels(series.model, series.target_model, text)
            series.totals[priority] = counter
        counter.inc()

    def _count_error(self, series: _ModelSeries, code: str) -> None:
        counter = series.errors.get(code)
        if counter is None:
            if code not in self._codes:
                if len(self._codes) >= _MAX_CODES:
                    self._errors.labels(series.model, series.target_model, OTHER).inc()
                    return
                self._codes.add(code)
            counter = self._errors.labels(series.model, series.target_model, code)
            series.errors[code] = counter
        counter.inc()

    def _of(self, model: str, target_model: str) -> _ModelSeries:
        pair = (self._models.fold(model), self._models.fold(target_model))
        series = self._series.get(pair)
        if series is None:
            if len(self._series) >= _MAX_PAIRS:
                pair = (OTHER, OTHER)
            series = self._series[pair] = self._look_up(*pair)
        return series

    def _look_up(self, model: str, target_model: str) -> _ModelSeries:
        def child(metric: Histogram) -> HistogramSeries:
            return metric.labels(model, target_model)

        return _ModelSeries(
            model=model,
            target_model=target_model,
            duration=child(self._duration),
            request_bytes=child(self._request_bytes),
            response_bytes=child(self._response_bytes),
            input_tokens=child(self._input_tokens),
            output_tokens=child(self._output_tokens),
            cached_tokens=child(self._cached_tokens),
            per_request_token=child(self._per_request_token),
            first_token=child(self._first_token),
            per_output_token=child(self._per_output_token),
            totals={},
            errors={},
        )


def _error_code(completed: CompletedRequest) -> str:
    """Return the status, or for an answer that broke after a good one the flag that says how."""
    if completed.status < 400 and completed.flags:
        return completed.flags.split(",", 1)[0]
    return str(completed.status)
