"""Metrics of the ledger's audits: how many, what they found, what they changed."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from endpoint_picker.requestcontrol.audit import AuditReport
from endpoint_picker.telemetry.pool_metrics import Pools

_ENDPOINT: Final = ("endpoint",)


class LedgerMetrics(Collector):
    """Counts audits, and shows what the latest one that could compare found at each present endpoint.

    Args:
        registry: Where the metrics go.
        pools: Present pools; an endpoint that is in none has no sample.
    """

    def __init__(self, registry: CollectorRegistry, pools: Pools) -> None:
        self._pools = pools
        self._drift: Mapping[str, int] = {}
        self._corrections: Mapping[str, int] = {}
        self._audits = Counter(
            "inference_gateway_ledger_audits_total",
            "Comparisons of the in-flight ledger with Envoy's own counts.",
            ("result",),
            registry=registry,
        )
        corrected = Counter(
            "inference_gateway_ledger_corrected_requests_total",
            "Requests that audits added to the ledger, or took away because Envoy no longer had them.",
            ("direction",),
            registry=registry,
        )
        self._adopted, self._dropped = corrected.labels("adopted"), corrected.labels("dropped")
        self._audited_at = Gauge(
            "inference_gateway_ledger_last_audit_timestamp_seconds",
            "When the ledger was last compared with Envoy's counts, seconds since the epoch.",
            registry=registry,
        )
        registry.register(self)

    def record(self, result: str, report: AuditReport | None, at: float) -> None:
        """Count one audit; *result* is one of a closed set."""
        self._audits.labels(result).inc()
        if report is None:
            return
        self._drift, self._corrections = report.drift, report.corrections
        self._adopted.inc(report.adopted)
        self._dropped.inc(report.dropped)
        self._audited_at.set(at)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families without samples."""
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families with what the latest audit found."""
        drift, corrections = _families()
        present = {endpoint.address for endpoints in self._pools().values() for endpoint in endpoints}
        for address in present & self._drift.keys():
            drift.add_metric((address,), self._drift[address])
            corrections.add_metric((address,), self._corrections.get(address, 0))
        yield from (drift, corrections)


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "inference_gateway_ledger_drift_requests",
            "Requests that the latest audit found at an endpoint beyond the ledger, negative if fewer; what is not "
            "dispatched or not reported yet does not count.",
            labels=_ENDPOINT,
        ),
        GaugeMetricFamily(
            "inference_gateway_ledger_correction_requests",
            "Part of an endpoint's in-flight requests that audits added, or took away if negative.",
            labels=_ENDPOINT,
        ),
    )
