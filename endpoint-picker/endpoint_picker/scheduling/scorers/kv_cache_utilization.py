"""Prefer the endpoint with the most free KV cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class KvCacheUtilizationScorer:
    """Score the free fraction of the KV cache; unknown stays unknown.

    Source: ``kv-cache-utilization-scorer`` of the Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "kv-cache-utilization-scorer"

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[float | None]:  # noqa: ARG002 - the cache is as full for every request
        """Return one score in [0, 1] per endpoint, aligned with *endpoints*; None where utilization is unknown."""
        return [
            None
            if (metrics := endpoint.metrics) is None or (used := metrics.kv_cache_utilization) is None
            else 1.0 - used
            for endpoint in endpoints
        ]
