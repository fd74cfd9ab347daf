"""Prefer endpoints that have the asked-for LoRA adapter loaded, then those with room for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class LoraAffinityScorer:
    """Score 1 where the adapter runs, 0.8 where a slot is free, 0.6 where it waits for one, else 0.

    A request for the base model (or for none) scores 1 everywhere its model is the base, so adapters neither attract
    nor repel it. Unknown: no reading, an endpoint that does not say whether it serves adapters, and a model of which
    nothing tells whether it is an adapter.

    Source: ``lora-affinity-scorer`` of the Gateway API Inference Extension, which scores base-model requests too.
    """

    plugin_type: ClassVar[str] = "lora-affinity-scorer"

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*; None where nothing is known."""
        model = request.target_model
        if not model:
            return [1.0] * len(endpoints)
        readings = [endpoint.metrics for endpoint in endpoints]
        # Most requests ask for the base model everywhere, and no set of adapters is looked at.
        if all(metrics is None or metrics.model == model for metrics in readings):
            return [None if metrics is None else 1.0 for metrics in readings]
        is_adapter = any(
            metrics is not None and (model in metrics.running_loras or model in metrics.waiting_loras)
            for metrics in readings
        )
        return [
            None if metrics is None else _score_one(model, metrics, seen_as_adapter=is_adapter) for metrics in readings
        ]


def _score_one(model: str, metrics: EndpointMetrics, *, seen_as_adapter: bool) -> float | None:
    if model == metrics.model or model in metrics.running_loras:
        return 1.0
    if metrics.max_loras is None or not (seen_as_adapter or metrics.model):
        return None
    if len(metrics.running_loras | metrics.waiting_loras) < metrics.max_loras:
        return 0.8
    return 0.6 if model in metrics.waiting_loras else 0.0
