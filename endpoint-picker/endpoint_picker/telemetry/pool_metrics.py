"""Gauges of pools and endpoints, computed when asked for: no series outlives its endpoint."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from endpoint_picker.domain.endpoint import Endpoint

Pools = Callable[[], Mapping[str, Sequence[Endpoint]]]
"""Gives the ready endpoints of every pool by the pool's name (``namespace/name``)."""

_POOL: Final = ("name",)
_POD: Final = ("name", "model_server_pod")
_ENDPOINT: Final = ("pool", "endpoint")


class PoolCollector(Collector):
    """Turns the pools' present state into metric families.

    An average is over the endpoints that are known; a pool where none is has no sample, rather than zero.

    Args:
        pools: Present pools.
        clock: The clock of `EndpointMetrics.read_at`.
    """

    def __init__(self, pools: Pools, clock: Callable[[], float]) -> None:
        self._pools = pools
        self._clock = clock

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families without samples."""
        yield from _Families().all

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families with the present samples."""
        families = _Families()
        now = self._clock()
        for pool, endpoints in self._pools().items():
            families.add_pool(pool, endpoints, now)
        yield from families.all


class _Families:
    def __init__(self) -> None:
        self._kv = GaugeMetricFamily(
            "inference_pool_average_kv_cache_utilization", "Mean KV-cache utilization, 0 to 1.", labels=_POOL
        )
        self._queue = GaugeMetricFamily(
            "inference_pool_average_queue_size", "Mean number of requests waiting in a model server.", labels=_POOL
        )
        self._running = GaugeMetricFamily(
            "inference_pool_average_running_requests", "Mean number of requests being computed.", labels=_POOL
        )
        self._ready = GaugeMetricFamily("inference_pool_ready_pods", "Ready endpoints of the pool.", labels=_POOL)
        self._queues = GaugeMetricFamily(
            "inference_pool_per_pod_queue_size", "Requests waiting in one model server.", labels=_POD
        )
        self._in_flight = GaugeMetricFamily(
            "inference_gateway_in_flight_requests", "Requests sent to an endpoint and not completed.", labels=_ENDPOINT
        )
        self._endpoint_kv = GaugeMetricFamily(
            "inference_gateway_kv_cache_utilization", "KV-cache utilization of one endpoint, 0 to 1.", labels=_ENDPOINT
        )
        self._age = GaugeMetricFamily(
            "inference_gateway_scrape_age_seconds", "Age of an endpoint's last metrics reading.", labels=_ENDPOINT
        )

    @property
    def all(self) -> tuple[GaugeMetricFamily, ...]:
        pools = self._kv, self._queue, self._running, self._ready
        return *pools, self._queues, self._in_flight, self._endpoint_kv, self._age

    def add_pool(self, pool: str, endpoints: Sequence[Endpoint], now: float) -> None:
        read = [endpoint.metrics for endpoint in endpoints if endpoint.metrics]
        self._ready.add_metric((pool,), len(endpoints))
        _add_mean(self._kv, pool, [metrics.kv_cache_utilization for metrics in read])
        _add_mean(self._queue, pool, [metrics.waiting_queue_size for metrics in read])
        _add_mean(self._running, pool, [metrics.running_requests for metrics in read])
        for endpoint in endpoints:
            labels = (pool, endpoint.address)
            self._in_flight.add_metric(labels, endpoint.in_flight.requests)
            if endpoint.metrics is None:
                continue
            self._age.add_metric(labels, max(0.0, now - endpoint.metrics.read_at))
            if endpoint.metrics.kv_cache_utilization is not None:
                self._endpoint_kv.add_metric(labels, endpoint.metrics.kv_cache_utilization)
            if endpoint.metrics.waiting_queue_size is not None:
                pod = endpoint.name or endpoint.address
                self._queues.add_metric((pool, pod), endpoint.metrics.waiting_queue_size)


def _add_mean(family: GaugeMetricFamily, pool: str, values: Sequence[float | None]) -> None:
    known = [value for value in values if value is not None]
    if known:
        family.add_metric((pool,), sum(known) / len(known))
