"""The debug state: what this picker believes, as one JSON document for people and for `igw status`."""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from endpoint_picker.datalayer.endpoint_circuits import CircuitReport
from endpoint_picker.datalayer.endpoint_store import EndpointStore
from endpoint_picker.domain.circuit import CircuitState
from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from endpoint_picker.telemetry.observer import EndpointRecord, PickerObserver
from inference_resolution.resolved import Resolution, ResolvedModel, ResolvedPool


def package_version() -> str:
    """Return the version of this distribution."""
    try:
        return version("inference-gateway")
    except PackageNotFoundError:
        return "unknown"


class DebugState:
    """Gathers the state; `took_over` and `refused` are called by wiring only."""

    def __init__(
        self,
        *,
        store: EndpointStore,
        observer: PickerObserver,
        ledger: InFlightLedger,
        recent: Callable[[], Sequence[tuple[InferenceRequest, SchedulingDecision]]],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._observer = observer
        self._ledger = ledger
        self._recent = recent
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = clock()
        self._resolution = Resolution()
        self._error = ""
        self._loaded_at = 0.0
        self._problems: tuple[str, ...] = ()
        self.synced = False

    def took_over(self, resolution: Resolution, error: str) -> None:
        """Note that *resolution* is in force; *error* is Envoy's objection, empty if none."""
        self._resolution = resolution
        self._error = error
        self._loaded_at = self._wall_clock()
        self._problems = ()
        self.synced = True

    def refused(self, problems: tuple[str, ...]) -> None:
        """Note that an edit was refused and the last good state stays."""
        self._problems = problems

    def page(self) -> Mapping[str, object]:
        """Return the document; every value is JSON."""
        resolution = self._resolution
        return {
            "version": package_version(),
            "pid": os.getpid(),
            "uptime_seconds": round(self._clock() - self._started, 1),
            "synced": self.synced,
            "configuration": {
                "accepted": not self._error and not self._problems,
                "error": self._error or "; ".join(self._problems),
                "loaded_at": self._loaded_at,
            },
            "in_flight": self._ledger.totals.requests,
            "models": [
                _model(model)
                for pool in resolution.pools.values()
                for model in sorted(pool.models.values(), key=lambda m: m.model_name)
            ],
            "pools": [self._pool(pool) for pool in resolution.pools.values()],
            "recent_decisions": [_decision(request, decision) for request, decision in self._recent()],
            "problems": [
                *self._problems,
                *(
                    f"{v.subject.kind} {v.subject.namespace}/{v.subject.name}: {v.type}={v.status} "
                    f"({v.reason}): {v.message}"
                    for v in resolution.verdicts
                    if v.status == "False"
                ),
            ],
        }

    def _pool(self, pool: ResolvedPool) -> Mapping[str, object]:
        return {
            "name": pool.key.cluster_name,
            "failure_mode": pool.failure_mode.value,
            "endpoints": [self._endpoint(endpoint) for endpoint in self._store.endpoints(pool.key)],
        }

    def _endpoint(self, endpoint: Endpoint) -> Mapping[str, object]:
        record = self._observer.records.get(endpoint.address, EndpointRecord())
        circuit = self._store.circuit(endpoint.address)
        return {
            "address": endpoint.address,
            "name": endpoint.name,
            "healthy": circuit is None or circuit.state is not CircuitState.OPEN,
            "circuit": None if circuit is None else _circuit(circuit),
            "in_flight": endpoint.in_flight.requests,
            "in_flight_correction": self._ledger.correction(endpoint.address),
            "metrics": None if endpoint.metrics is None else self._metrics(endpoint.metrics),
            "requests_total": record.requests,
            "attempts_failed_total": record.failed,
            "ttft_p50_seconds": record.ttft_quantile(0.5),
            "ttft_p90_seconds": record.ttft_quantile(0.9),
            "tokens_per_second": record.tokens_per_second(self._clock()),
        }

    def _metrics(self, metrics: EndpointMetrics) -> Mapping[str, object]:
        return {
            "engine": metrics.engine,
            "model": metrics.model,
            "waiting_queue_size": metrics.waiting_queue_size,
            "running_requests": metrics.running_requests,
            "kv_cache_utilization": metrics.kv_cache_utilization,
            "kv_block_size": metrics.kv_block_size,
            "kv_blocks": metrics.kv_blocks,
            "max_loras": metrics.max_loras,
            "running_loras": sorted(metrics.running_loras),
            "waiting_loras": sorted(metrics.waiting_loras),
            "preemptions": metrics.preemptions,
            "age_seconds": round(self._clock() - metrics.read_at, 3),
        }


def _circuit(circuit: CircuitReport) -> Mapping[str, object]:
    until = circuit.until_seconds
    return {
        "state": circuit.state.value,
        "reason": None if circuit.reason is None else circuit.reason.value,
        "until_seconds": None if until is None else round(until, 1),
        "openings": circuit.openings,
        "probes": circuit.probes,
        "attempts": circuit.attempts,
        "error_share": round(circuit.error_share, 3),
    }


def _model(model: ResolvedModel) -> Mapping[str, object]:
    return {
        "name": model.model_name,
        "pool": model.pool.cluster_name,
        "targets": [target.name for target in model.targets],
        "priority": model.priority,
    }


def _decision(request: InferenceRequest, decision: SchedulingDecision) -> Mapping[str, object]:
    """Return a decision with what each plugin said of each candidate."""
    return {
        "request_id": request.request_id,
        "model": request.model,
        "target_model": request.target_model,
        "prompt_tokens": request.prompt_tokens,
        "profile": decision.profile,
        "chosen": list(decision.addresses),
        "candidates": [
            {
                "address": address,
                "total": decision.totals[i] if i < len(decision.totals) else None,
                "scores": {scores.plugin: scores.values[i] for scores in decision.explanation},
            }
            for i, address in enumerate(decision.candidates)
        ],
    }
