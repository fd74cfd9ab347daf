"""The endpoints of every pool, with their last readings and our own work on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from endpoint_picker.datalayer.endpoint_circuits import CircuitReport, EndpointCircuits
from endpoint_picker.domain.circuit import PoolCircuits
from endpoint_picker.domain.completion import Attempt
from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from inference_resolution.resolved import PoolKey, ResolvedPool


@dataclass(slots=True)
class _Condition:
    """What is known of one address; written by the store only."""

    metrics: EndpointMetrics | None = None
    endpoints: dict[PoolKey, Endpoint] = field(default_factory=dict)


class EndpointStore:
    """Publishes immutable endpoints per pool; readings replace them one by one.

    Args:
        ledger: Gives the live in-flight counters of an address.
        circuits: Which endpoints are kept out of the choice; this store alone tells them what happens.
        models: Model lists by address.
    """

    def __init__(
        self,
        ledger: InFlightLedger,
        circuits: EndpointCircuits,
        *,
        models: Callable[[], Mapping[str, Sequence[str]]] = dict,
    ) -> None:
        self._ledger = ledger
        self._circuits = circuits
        self._models = models
        self._conditions: dict[str, _Condition] = {}
        self._pools: dict[PoolKey, tuple[str, ...]] = {}
        self._candidates: dict[PoolKey, tuple[Endpoint, ...]] = {}

    def replace(self, pools: Mapping[PoolKey, ResolvedPool]) -> frozenset[str]:
        """Take over the endpoints of *pools*; return the addresses that are gone."""
        before = set(self._conditions)
        present = {endpoint.address for pool in pools.values() for endpoint in pool.endpoints}
        for address in before - present:
            del self._conditions[address]
            self._ledger.forget(address)
            self._circuits.forget(address)
        for address in present - before:
            self._conditions[address] = _Condition()
            self._circuits.add(address)
        for condition in self._conditions.values():
            condition.endpoints.clear()
        self._pools = {key: tuple(e.address for e in pool.endpoints) for key, pool in pools.items()}
        for key, pool in pools.items():
            for resolved in pool.endpoints:
                condition = self._conditions[resolved.address]
                condition.endpoints[key] = Endpoint(
                    address=resolved.address,
                    name=resolved.name,
                    namespace=resolved.namespace,
                    labels=resolved.labels,
                    metrics=condition.metrics,
                    in_flight=self._ledger.counters(resolved.address),
                )
        self._candidates.clear()
        return frozenset(before - present)

    def publish(self, address: str, metrics: EndpointMetrics | None) -> None:
        """Take over a reading; None: the last one is stale."""
        condition = self._conditions.get(address)
        if condition is None:
            return
        condition.metrics = metrics
        if metrics is not None:
            self._circuits.page_answered(address)
        for key, endpoint in condition.endpoints.items():
            condition.endpoints[key] = replace(endpoint, metrics=metrics)
            self._candidates.pop(key, None)

    def page_failed(self, address: str, *, unreachable: bool, timed_out: bool = False) -> None:
        """Learn that a page could not be had; an answer of any kind shows that the endpoint is there.

        A page that is late says less than a refused connection: this process may have been the slow one.
        """
        if unreachable or timed_out:
            self._circuits.page_failed(address, late=timed_out)
        else:
            self._circuits.page_answered(address)

    def attempted(self, attempt: Attempt) -> None:
        """Learn how an attempt went, or that a live one goes on; of one that has begun to answer, once."""
        self._circuits.attempted(attempt)

    def chosen(self, address: str, request_id: str) -> None:
        """Learn that a request was given to this endpoint first."""
        if not self._circuits.all_closed:
            self._circuits.chosen(address, request_id)

    def circuit(self, address: str) -> CircuitReport | None:
        """Return what is known of the circuit of an address; None for an unknown one."""
        return self._circuits.report(address)

    def endpoints(self, pool: PoolKey) -> tuple[Endpoint, ...]:
        """Return every endpoint of *pool*, reachable or not."""
        cached = self._candidates.get(pool)
        if cached is None:
            cached = tuple(self._conditions[address].endpoints[pool] for address in self._pools.get(pool, ()))
            self._candidates[pool] = cached
        return cached

    def candidates(self, pool: PoolKey) -> tuple[Endpoint, ...]:
        """Return the endpoints to choose from: all but those that their circuits keep out; never none of several."""
        endpoints = self.endpoints(pool)
        if self._circuits.all_closed:
            return endpoints
        out = self._circuits.kept_out(self._pools.get(pool, ()))
        return tuple([e for e in endpoints if e.address not in out]) if out else endpoints

    def served_models(self, pool: PoolKey) -> Sequence[str]:
        """Return the models that the endpoints of *pool* list."""
        lists = self._models()
        return [model for address in self._pools.get(pool, ()) for model in lists.get(address, ())]

    def by_pool_name(self) -> Mapping[str, Sequence[Endpoint]]:
        """Return every pool's endpoints under the pool's name, for metrics."""
        return {key.cluster_name: self.endpoints(key) for key in self._pools}

    def circuits_by_pool_name(self) -> Mapping[str, PoolCircuits]:
        """Return every pool's circuits under the pool's name, for metrics."""
        return {key.cluster_name: self._circuits.of_pool(addresses) for key, addresses in self._pools.items()}
