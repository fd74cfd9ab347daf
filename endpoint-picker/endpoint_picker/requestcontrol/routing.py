"""Which rule and pool a request belongs to, by the tables that Envoy matched with."""

import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from endpoint_picker.domain.errors import BackendInvalid, ModelNotFound, RouteNotFound
from endpoint_picker.requestcontrol.exchange import RequestHead
from envoy_config import names
from inference_resolution.matching import matches
from inference_resolution.resolved import (
    PoolKey,
    Resolution,
    ResolvedBackend,
    ResolvedPool,
    ResolvedRule,
    RouteEntry,
    TargetModel,
    VirtualHost,
)

_TABLES_KEPT = 64
"""Virtual-host tables remembered: Envoy may still hold requests that were matched with an earlier one."""


@dataclass(frozen=True, slots=True)
class HostTable:
    """The entries of one virtual host, findable by the name of their Envoy route."""

    host: VirtualHost
    position: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, host: VirtualHost) -> "HostTable":
        """Return the table of *host*."""
        return cls(host, {entry.name: i for i, entry in enumerate(host.entries)})


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What a model name means in a pool.

    Attributes:
        target: Model the server is asked for; empty: the request names none.
        priority: Higher first; below 0 may be shed.
        critical: Whether saturation is ignored.
        configured: Whether the name comes from a resource, so that it may label metrics.
    """

    target: str
    priority: int
    critical: bool
    configured: bool


class Routing:
    """Routing by the latest resolution; `replace` is its only writer.

    Args:
        rng: Draws weighted backends and target models.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pools: Mapping[PoolKey, ResolvedPool] = {}
        self._tables: OrderedDict[str, HostTable] = OrderedDict()
        self._current: tuple[str, ...] = ()

    def replace(self, resolution: Resolution) -> None:
        """Route by *resolution* from now on; earlier tables stay known to requests that were matched with them."""
        hosts = [host for listener in resolution.listeners for host in listener.virtual_hosts]
        tables = {names.virtual_host_name(host): HostTable.of(host) for host in hosts}
        for name, table in tables.items():
            self._tables.pop(name, None)
            self._tables[name] = table
        self._pools = resolution.pools
        self._current = tuple(tables)
        while len(self._tables) > max(_TABLES_KEPT, len(tables)):
            self._tables.popitem(last=False)

    @property
    def pools(self) -> Mapping[PoolKey, ResolvedPool]:
        """Every reachable pool."""
        return self._pools

    def _entries(self, head: RequestHead) -> Iterator[RouteEntry]:
        """Yield the entries that match *head*, Envoy's own choice first, then by precedence."""
        table = self._tables.get(head.virtual_host)
        start = table.position.get(head.route) if table is not None else None
        if table is None or start is None:
            return
        entries = table.host.entries
        yield entries[start]
        if start + 1 == len(entries):
            return
        path, _, raw_query = head.path.partition("?")
        query = _first_values(raw_query)
        for entry in entries[start + 1 :]:
            if matches(entry.match, path=path, method=head.method, headers=head.headers, query=query):
                yield entry

    def reaches_pools(self, head: RequestHead) -> bool:
        """Return whether a request with this head could go to a pool, so that its body matters."""
        return any(entry.rule.picked for entry in self._entries(head))

    def find(self, head: RequestHead, model: str) -> RouteEntry:
        """Return the entry that serves *model* (empty: none named).

        Raises:
            ModelNotFound: Routes match, but none for this model.
            RouteNotFound: No route matches.
        """
        limited = False
        for entry in self._entries(head):
            if entry.models is None or model in entry.models:
                return entry
            limited = True
        if limited and model:
            raise ModelNotFound(model, self.model_names(head.virtual_host))
        path = head.path.partition("?")[0]
        msg = f"No route matches {head.method} {path[:200]}."
        raise RouteNotFound(msg)

    def choose_backend(self, rule: ResolvedRule) -> ResolvedBackend:
        """Return one backend of *rule* by weight.

        Raises:
            BackendInvalid: There is none, or the one drawn has an invalid reference.
        """
        backends = [backend for backend in rule.backends if backend.weight > 0]
        chosen = backends[0] if len(backends) == 1 else self._draw(backends)
        if chosen is None or chosen.target is None:
            msg = "The route's backend reference is invalid."
            raise BackendInvalid(msg)
        return chosen

    def _draw(self, backends: Sequence[ResolvedBackend]) -> ResolvedBackend | None:
        if not backends:
            return None
        return self._rng.choices(backends, weights=[backend.weight for backend in backends])[0]

    def choose_model(self, pool: ResolvedPool, model: str) -> ModelChoice:
        """Return what *model* means in *pool*.

        A rewrite speaks first, then the InferenceModel; a pool without InferenceModels passes any model on, sheddable.

        Raises:
            ModelNotFound: The pool has InferenceModels, but none of this name.
        """
        if not model:
            return ModelChoice("", 0, critical=False, configured=False)
        found = pool.models.get(model)
        priority = found.priority if found is not None else (-1 if not pool.models else 0)
        critical = found is not None and found.critical
        for rewrite in pool.rewrites:
            if not rewrite.models or model in rewrite.models:
                return ModelChoice(self._target(rewrite.targets), priority, critical=critical, configured=True)
        if found is not None:
            return ModelChoice(self._target(found.targets), priority, critical=critical, configured=True)
        if pool.models:
            raise ModelNotFound(model, tuple(sorted(pool.models)))
        return ModelChoice(model, priority, critical=False, configured=False)

    def _target(self, targets: Sequence[TargetModel]) -> str:
        if len(targets) == 1:
            return targets[0].name
        return self._rng.choices(targets, weights=[target.weight for target in targets])[0].name

    def pools_of_host(self, virtual_host: str) -> tuple[ResolvedPool, ...]:
        """Return the pools that the entries of a virtual host reach, in order, each once."""
        table = self._tables.get(virtual_host)
        if table is None:
            return ()
        keys = dict.fromkeys(key for entry in table.host.entries for key in entry.rule.pools)
        return tuple(self._pools[key] for key in keys if key in self._pools)

    def model_names(self, virtual_host: str) -> tuple[str, ...]:
        """Return the configured models of a virtual host, sorted."""
        table = self._tables.get(virtual_host)
        if table is None:
            return ()
        found: set[str] = set()
        for entry in table.host.entries:
            if entry.models is not None:
                found |= entry.models
        for pool in self.pools_of_host(virtual_host):
            found |= self._reachable_models(table.host, pool)
        return tuple(sorted(found))

    @staticmethod
    def _reachable_models(host: VirtualHost, pool: ResolvedPool) -> set[str]:
        """Return the models of *pool* that an entry for any model leads to."""
        if any(entry.models is None and pool.key in entry.rule.pools for entry in host.entries):
            return set(pool.models) | {model for rewrite in pool.rewrites for model in rewrite.models}
        return set()

    def virtual_host_of(self, authority: str) -> str:
        """Return the name of the current virtual host for *authority*; empty if none covers it."""
        wanted = _host_name(authority)
        best = ""
        best_length = -1
        for name in self._current:
            hostname = self._tables[name].host.hostname
            covered = hostname in ("*", wanted) or (hostname.startswith("*.") and wanted.endswith(hostname[1:]))
            length = len(hostname) if hostname != wanted else len(hostname) + 1000
            if covered and length > best_length:
                best, best_length = name, length
        return best


def _first_values(raw_query: str) -> dict[str, str]:
    """Return the first value of each query parameter, undecoded as Envoy compares it."""
    query: dict[str, str] = {}
    for parameter in raw_query.split("&"):
        name, _, value = parameter.partition("=")
        query.setdefault(name, value)
    return query


def _host_name(authority: str) -> str:
    host = authority.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
