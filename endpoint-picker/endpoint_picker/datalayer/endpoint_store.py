"""The endpoints of every pool, with their last readings and our own work on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from endpoint_picker.domain.completion import Attempt
from endpoint_picker.domain.endpoint import Endpoint, EndpointMetrics
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from inference_resolution.resolved import PoolKey, ResolvedPool

_FAILED_PAGES: Final = 2
_LATE_PAGE: Final = 0.4
_FAILURES_IN_A_ROW: Final = 3
_SUSPECT_SECONDS: Final = 1.0
_LONGEST_SUSPECT_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Condition:
    """What is known of one address; written by the store only."""

    metrics: EndpointMetrics | None = None
    failed_pages: float = 0.0
    failed_attempts: int = 0
    suspect_until: float = 0.0
    endpoints: dict[PoolKey, Endpoint] = field(default_factory=dict)


class EndpointStore:
    """Publishes immutable endpoints per pool; readings replace them one by one.

    An address that refuses connections (by its metrics page or by attempts), or fails several attempts in a row, is
    kept out of the choice while there are others; when nothing else is left, it is tried.

    Args:
        ledger: Gives the live in-flight counters of an address.
        clock: Monotonic seconds.
        models: Model lists by address.
    """

    def __init__(
        self,
        ledger: InFlightLedger,
        *,
        clock: Callable[[], float],
        models: Callable[[], Mapping[str, Sequence[str]]] = dict,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
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
        for address in present - before:
            self._conditions[address] = _Condition()
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
            condition.failed_pages = 0.0
        for key, endpoint in condition.endpoints.items():
            condition.endpoints[key] = replace(endpoint, metrics=metrics)
            self._candidates.pop(key, None)

    def page_failed(self, address: str, *, unreachable: bool, timed_out: bool = False) -> None:
        """Learn that a page could not be had; an answer of any kind shows that the endpoint is there.

        A page that is late says less than a refused connection: this process may have been the slow one.
        """
        condition = self._conditions.get(address)
        if condition is None:
            return
        if unreachable or timed_out:
            condition.failed_pages += _LATE_PAGE if timed_out else 1.0
        else:
            condition.failed_pages = 0.0

    def attempted(self, attempt: Attempt) -> None:
        """Learn how an attempt went.

        One that got no connection, or several in a row that failed otherwise, make the endpoint suspect: it is kept
        out for a moment that doubles with every further failure, then tried again. The first success ends that.
        """
        condition = self._conditions.get(attempt.address)
        if condition is None:
            return
        if not attempt.failed:
            if attempt.status is not None:
                condition.failed_attempts, condition.suspect_until = 0, 0.0
            return
        condition.failed_attempts += 1
        refused = attempt.status is None and not attempt.started and "UF" in attempt.flags.split(",")
        beyond = condition.failed_attempts - (1 if refused else _FAILURES_IN_A_ROW)
        if beyond >= 0:
            seconds = min(_LONGEST_SUSPECT_SECONDS, _SUSPECT_SECONDS * 2.0 ** min(beyond, 10))
            condition.suspect_until = self._clock() + seconds

    def reachable(self, address: str) -> bool:
        """Return whether the address takes connections, as far as is known."""
        condition = self._conditions.get(address)
        return condition is not None and self._is_reachable(condition)

    def _is_reachable(self, condition: _Condition) -> bool:
        return condition.failed_pages < _FAILED_PAGES and condition.suspect_until <= self._clock()

    def endpoints(self, pool: PoolKey) -> tuple[Endpoint, ...]:
        """Return every endpoint of *pool*, reachable or not."""
        cached = self._candidates.get(pool)
        if cached is None:
            cached = tuple(self._conditions[address].endpoints[pool] for address in self._pools.get(pool, ()))
            self._candidates[pool] = cached
        return cached

    def candidates(self, pool: PoolKey) -> Sequence[Endpoint]:
        """Return the endpoints to choose from: those that take connections, all when none is known to."""
        endpoints = self.endpoints(pool)
        reachable = [e for e in endpoints if self._is_reachable(self._conditions[e.address])]
        return reachable or endpoints

    def served_models(self, pool: PoolKey) -> Sequence[str]:
        """Return the models that the endpoints of *pool* list."""
        lists = self._models()
        return [model for address in self._pools.get(pool, ()) for model in lists.get(address, ())]

    def by_pool_name(self) -> Mapping[str, Sequence[Endpoint]]:
        """Return every pool's endpoints under the pool's name, for metrics."""
        return {key.cluster_name: self.endpoints(key) for key in self._pools}
