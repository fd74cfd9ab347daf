"""The picker's metrics: recorded in our words, rendered as a Prometheus page.

Names that the Inference Extension has are kept, dashboards exist for them; what is ours alone starts with
``inference_gateway_``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.metrics_core import Metric

from endpoint_picker.domain.circuit import CircuitReason, CircuitState, PoolCircuits
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.requestcontrol.audit import AuditReport
from endpoint_picker.telemetry import buckets
from endpoint_picker.telemetry.circuit_metrics import CircuitCollector, Circuits, CircuitTransitions
from endpoint_picker.telemetry.exposition import Page, expose
from endpoint_picker.telemetry.families import MetricFamily, families_of
from endpoint_picker.telemetry.histograms import Histogram, HistogramSeries
from endpoint_picker.telemetry.label_values import OTHER, BoundedNames
from endpoint_picker.telemetry.ledger_metrics import LedgerMetrics
from endpoint_picker.telemetry.pool_metrics import PoolCollector, Pools
from endpoint_picker.telemetry.request_metrics import RequestMetrics
from endpoint_picker.telemetry.span_queue import SpanOutcome

_MAX_ENDPOINTS: Final = 4096
_MAX_SCHEDULER_SERIES: Final = 8192


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    ANSWERED = "answered"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    ABANDONED = "abandoned"


def outcome_of(attempt: Attempt) -> AttemptOutcome:
    """Classify an attempt that is not live; the data plane's flags go before the status.

    Without either it was abandoned: the client left before the endpoint answered.
    """
    if not attempt.flags:
        if attempt.status is None:
            return AttemptOutcome.ABANDONED
        return AttemptOutcome.SERVER_ERROR if attempt.status >= 500 else AttemptOutcome.ANSWERED
    flags = frozenset(attempt.flags.split(","))
    if flags & {"UT", "SI", "DT", "UMSDR"}:
        return AttemptOutcome.TIMEOUT
    if "UF" in flags:
        return AttemptOutcome.UNREACHABLE
    if flags & {"UC", "UR", "UPE", "LR"} or attempt.status is None:
        return AttemptOutcome.BROKEN
    return AttemptOutcome.SERVER_ERROR if attempt.status >= 500 else AttemptOutcome.ANSWERED


class _Registry(CollectorRegistry):
    """Leaves out the time each series was created at: one more series per series that nobody reads."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _no_pools() -> Mapping[str, Sequence[Endpoint]]:
    return {}


def _no_circuits() -> Mapping[str, PoolCircuits]:
    return {}


class PickerMetrics:
    """All metrics of one picker, in a registry of its own.

    Recording is synchronous, cheap and never fails; series of an endpoint end with the first page rendered after it
    left its pool.

    Args:
        clock: The clock of `EndpointMetrics.read_at`.
        pools: Present pools, asked when the page is rendered.
        circuits: Present circuits, likewise.
        commit: Source revision of this build.
        build_ref: Its version.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        pools: Pools = _no_pools,
        circuits: Circuits = _no_circuits,
        commit: str = "",
        build_ref: str = "",
    ) -> None:
        self._registry = _Registry()
        ProcessCollector(registry=self._registry)
        self._models = BoundedNames()
        self._pools = pools
        self._requests = RequestMetrics(self._registry, self._models)
        self._registry.register(PoolCollector(pools, clock))
        self._registry.register(CircuitCollector(circuits))
        self._transitions = CircuitTransitions(self._registry)
        self._register_scheduler(commit, build_ref)
        self._register_endpoints()
        self._register_picker()
        self._ledger = LedgerMetrics(self._registry, pools)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def _register_scheduler(self, commit: str, build_ref: str) -> None:
        self._scheduling_seconds = Histogram(
            "inference_extension_scheduler_e2e_duration_seconds",
            "Time to choose endpoints for one request.",
            buckets=buckets.SCHEDULER_SECONDS,
            registry=self._registry,
        )
        self._scheduling_attempts = self._counter(
            "inference_extension_scheduler_attempts_total",
            "Attempts to choose an endpoint.",
            ("status", "target_model_name", "pod_name", "namespace", "port"),
        )
        self._scheduling_series: dict[tuple[str, str], tuple[Counter, tuple[str, ...]]] = {}
        self._prefix_size = self._gauge(
            "inference_extension_prefix_indexer_size", "Blocks in the prefix index, all endpoints together."
        )
        self._prefix_ratio = Histogram(
            "inference_extension_prefix_indexer_hit_ratio",
            "Share of a prompt found in the prefix index for the endpoint chosen.",
            buckets=buckets.HIT_RATIO,
            registry=self._registry,
        )
        info = self._gauge("inference_extension_info", "Build of the picker; always 1.", ("commit", "build_ref"))
        info.labels(commit, build_ref).set(1)

    def _register_endpoints(self) -> None:
        self._attempts = self._counter(
            "inference_gateway_attempts_total", "Attempts at an endpoint.", ("endpoint", "outcome")
        )
        self._scrape_errors = self._counter(
            "inference_gateway_scrape_errors_total", "Metrics pages that could not be used.", ("endpoint", "reason")
        )
        self._first_token = Histogram(
            "inference_gateway_attempt_first_byte_seconds",
            "From the start of an attempt to the first byte of its answer.",
            ("endpoint",),
            buckets=buckets.FIRST_TOKEN_SECONDS,
            registry=self._registry,
        )
        self._endpoint_counters: dict[tuple[str, str, str], Counter] = {}
        self._first_tokens: dict[str, HistogramSeries] = {}
        self._endpoints: set[str] = set()

    def _register_picker(self) -> None:
        self._failovers = self._counter(
            "inference_gateway_failovers_total", "Requests that another endpoint had to take over."
        )
        self._expired = self._counter(
            "inference_gateway_ledger_expired_total", "In-flight entries dropped because no end was ever reported."
        )
        self._unknown_releases = self._counter(
            "inference_gateway_ledger_unknown_releases_total", "Ends reported for requests that were not in flight."
        )
        self._malformed_entries = self._counter(
            "inference_gateway_access_log_malformed_total", "Access-log entries that could not be read."
        )
        self._rejected_configurations = self._counter(
            "inference_gateway_config_rejected_total", "Configurations that were refused; the last good one stays."
        )
        self._configuration_version = self._gauge(
            "inference_gateway_config_version", "Configurations taken over since the start."
        )
        self._configuration_good = self._gauge(
            "inference_gateway_config_last_load_success", "Whether the last configuration was taken over."
        )

        spans = self._counter(
            "inference_gateway_trace_spans_total", "Spans that were made, by what became of them.", ("outcome",)
        )
        self._spans = {outcome: spans.labels(outcome.value) for outcome in SpanOutcome}

    @property
    def families(self) -> tuple[MetricFamily, ...]:
        """Every family there is, sorted by name."""
        return tuple(sorted(families_of(self._registry), key=lambda family: family.name))

    def set_models(self, names: Iterable[str]) -> None:
        """Tell which model and target names are configured or served; any other is counted as ``other``."""
        self._models.allow(names)

    def record_begin(self, model: str) -> str:
        """Count a request as under way; return what `record_end` is to be given."""
        return self._requests.begin(model)

    def record_end(self, begun: str) -> None:
        """Count it no more; once per `record_begin`, with what that returned: known names change meanwhile."""
        self._requests.end(begun)

    def record_completion(self, completed: CompletedRequest) -> None:
        """Count and measure a completed request, failed or not."""
        self._requests.record(completed)
        if completed.attempts > 1:
            self._failovers.inc()

    def record_error(self, model: str, target_model: str, error_code: str) -> None:
        """Count a failure that no `record_completion` will tell of."""
        self._requests.record_error(model, target_model, error_code)

    def record_attempt(self, attempt: Attempt) -> None:
        """Count one attempt and measure its first byte; a live one is not counted yet."""
        if attempt.live:
            return
        self._endpoint_counter(self._attempts, "attempt", attempt.address, outcome_of(attempt).value).inc()
        if attempt.first_byte_seconds is not None:
            address = self._endpoint(attempt.address)
            histogram = self._first_tokens.get(address)
            if histogram is None:
                histogram = self._first_tokens[address] = self._first_token.labels(address)
            histogram.observe(attempt.first_byte_seconds)

    def record_scheduling(
        self, seconds: float, target_model: str, endpoint: Endpoint | None, exemplar: Mapping[str, str] | None = None
    ) -> None:
        """Count one scheduling attempt; *endpoint* is the first choice, None if there was none."""
        self._scheduling_seconds.observe(seconds, exemplar)
        model = self._models.fold(target_model)
        key = (model, endpoint.address if endpoint else "")
        if key not in self._scheduling_series and len(self._scheduling_series) >= _MAX_SCHEDULER_SERIES:
            key, endpoint = (OTHER, OTHER if endpoint else ""), Endpoint(OTHER, OTHER) if endpoint else None
        series = self._scheduling_series.get(key)
        if series is None:
            if endpoint is None:
                labels = ("failure", key[0], "", "", "")
            else:
                port = endpoint.address.rpartition(":")[2]
                labels = ("success", key[0], endpoint.name, endpoint.namespace, port)
            series = self._scheduling_series[key] = (self._scheduling_attempts.labels(*labels), labels)
        series[0].inc()

    def record_prefix_hit(self, ratio: float) -> None:
        """Note which share of a prompt, 0 to 1, the index expected in the chosen endpoint's cache."""
        self._prefix_ratio.observe(ratio)

    def set_prefix_index_size(self, blocks: int) -> None:
        """Note the size of the prefix index."""
        self._prefix_size.set(blocks)

    def record_circuit(self, address: str, state: CircuitState, reason: CircuitReason | None) -> None:
        """Count a change of an endpoint's circuit."""
        self._transitions.record(address, state, reason)

    def record_scrape_error(self, address: str, reason: str) -> None:
        """Count a metrics page that could not be had or used; *reason* is one of a closed set."""
        self._endpoint_counter(self._scrape_errors, "scrape", address, reason).inc()

    def record_ledger_expired(self, entries: int = 1) -> None:
        """Count in-flight entries dropped because their end was never reported."""
        self._expired.inc(entries)

    def record_unknown_release(self) -> None:
        """Count the reported end of a request that was not in flight."""
        self._unknown_releases.inc()

    def record_audit(self, result: str, report: AuditReport | None, at: float) -> None:
        """Count an audit of the ledger at *at*, seconds since the epoch; None: there was nothing to compare with."""
        self._ledger.record(result, report, at)

    def record_malformed_entry(self) -> None:
        """Count an access-log entry that could not be read."""
        self._malformed_entries.inc()

    def record_spans(self, outcome: SpanOutcome, spans: int) -> None:
        """Count spans by what became of them; may be called in any thread."""
        self._spans[outcome].inc(spans)

    def record_configuration(self, *, accepted: bool) -> None:
        """Count a configuration that was taken over or refused."""
        self._configuration_good.set(1 if accepted else 0)
        (self._configuration_version if accepted else self._rejected_configurations).inc()

    def page(self, accept: str = "") -> Page:
        """Return the page in a form that *accept* asks for, then forget the series of endpoints that are in no pool."""
        page = expose(self._registry, accept)
        self._forget_departed({endpoint.address for endpoints in self._pools().values() for endpoint in endpoints})
        return page

    def render(self) -> bytes:
        """Return the page as text; see `page`."""
        return self.page().body

    def _endpoint(self, address: str) -> str:
        if address not in self._endpoints:
            if len(self._endpoints) >= _MAX_ENDPOINTS:
                return OTHER
            self._endpoints.add(address)
        return address

    def _endpoint_counter(self, family: Counter, kind: str, address: str, value: str) -> Counter:
        key = (kind, self._endpoint(address), value)
        counter = self._endpoint_counters.get(key)
        if counter is None:
            counter = self._endpoint_counters[key] = family.labels(key[1], value)
        return counter

    def _forget_departed(self, present: set[str]) -> None:
        for kind, address, value in [key for key in self._endpoint_counters if key[1] not in present]:
            del self._endpoint_counters[kind, address, value]
            (self._attempts if kind == "attempt" else self._scrape_errors).remove(address, value)
        for address in self._first_tokens.keys() - present:
            del self._first_tokens[address]
            self._first_token.remove(address)
        self._transitions.forget_departed(present)
        for key in [key for key in self._scheduling_series if key[1] and key[1] not in present]:
            self._scheduling_attempts.remove(*self._scheduling_series.pop(key)[1])
        self._endpoints &= present
