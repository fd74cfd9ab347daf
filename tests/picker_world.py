"""A director with real routing, store and ledger, and fakes around it, for tests of what happens to requests."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from endpoint_picker.datalayer.endpoint_circuits import EndpointCircuits
from endpoint_picker.datalayer.endpoint_store import EndpointStore
from endpoint_picker.domain.circuit import CircuitSettings
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.errors import NoReadyEndpoints
from endpoint_picker.domain.request import InferenceRequest, SchedulingDecision
from endpoint_picker.requestcontrol.body.parsed import BodyLimits
from endpoint_picker.requestcontrol.director import Director, DirectorSettings
from endpoint_picker.requestcontrol.exchange import RequestHead
from endpoint_picker.requestcontrol.ledger import InFlightLedger
from endpoint_picker.requestcontrol.routing import Routing
from envoy_config import names
from inference_resolution.resolved import (
    ObjectKey,
    PoolKey,
    Resolution,
    ResolvedBackend,
    ResolvedEndpoint,
    ResolvedListener,
    ResolvedModel,
    ResolvedPool,
    ResolvedRule,
    RouteEntry,
    RouteMatch,
    ServiceKey,
    TargetModel,
    VirtualHost,
)

GATEWAY = ObjectKey("gateway.networking.k8s.io", "Gateway", "default", "gw")
POOL = PoolKey("default", "p", "v1")
OTHER_POOL = PoolKey("default", "q", "v1")
LIMIT_SECONDS = 900.0


def endpoint_at(number: int) -> ResolvedEndpoint:
    return ResolvedEndpoint(f"pod-{number}", "default", f"10.0.0.{number}", 80)


def model_of(name: str, *targets: TargetModel, pool: PoolKey = POOL, priority: int = 0) -> ResolvedModel:
    key = ObjectKey("inference.networking.x-k8s.io", "InferenceModel", "default", name)
    return ResolvedModel(key, name, pool, targets or (TargetModel(name),), priority)


def pool_of(key: PoolKey = POOL, *, endpoints: int = 2, **parts: Any) -> ResolvedPool:
    return ResolvedPool(key, tuple(endpoint_at(n + 1) for n in range(endpoints)), **parts)


def entry_to(
    *targets: PoolKey | ServiceKey | None,
    name: str = "r",
    match: RouteMatch | None = None,
    models: frozenset[str] | None = None,
    **parts: Any,
) -> RouteEntry:
    rule = ResolvedRule(name, tuple(ResolvedBackend(target) for target in targets), **parts)
    return RouteEntry(f"{name}/0", match or RouteMatch(), rule, models)


def resolution_of(*entries: RouteEntry, pools: Sequence[ResolvedPool] = (), hostname: str = "*") -> Resolution:
    host = VirtualHost(hostname, entries)
    found = {pool.key: pool for pool in pools or (pool_of(),)}
    return Resolution((ResolvedListener(GATEWAY, "http", 8080, (host,)),), found)


@dataclass
class RecordingObserver:
    """Keeps what it hears; *running* must be empty when nothing is under way."""

    running: dict[str, str] = field(default_factory=dict)
    finished: list[CompletedRequest] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    expirations: int = 0
    strangers: int = 0

    def stranger_ended(self) -> None:
        self.strangers += 1

    def scheduled(
        self, request: InferenceRequest, chosen: Endpoint | None, decision: SchedulingDecision | None, seconds: float
    ) -> None:
        del request, chosen, decision, seconds

    def began(self, correlation_id: str, model: str) -> None:
        self.running[correlation_id] = model

    def ended(self, correlation_id: str) -> None:
        self.running.pop(correlation_id, None)

    def attempted(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def completed(self, completed: CompletedRequest) -> None:
        self.finished.append(completed)

    def expired(self, requests: int) -> None:
        self.expirations += requests


@dataclass
class FirstEndpoints:
    """Takes the candidates in order; keeps what it was asked."""

    requests: list[InferenceRequest] = field(default_factory=list)

    def schedule(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], profile: str = ""
    ) -> SchedulingDecision:
        self.requests.append(request)
        if request.subset == frozenset():
            msg = "nothing in the subset"
            raise NoReadyEndpoints(msg)
        return SchedulingDecision(tuple(endpoint.address for endpoint in endpoints), profile)


class World:
    """One director and everything around it."""

    def __init__(self, resolution: Resolution | None = None, *, seed: int = 1) -> None:
        self.now = 1000.0
        self.ledger = InFlightLedger(LIMIT_SECONDS, clock=lambda: self.now)
        self.models: dict[str, Sequence[str]] = {}
        self.circuits = EndpointCircuits(CircuitSettings(), clock=lambda: self.now, rng=random.Random(seed))
        self.store = EndpointStore(self.ledger, self.circuits, models=lambda: self.models)
        self.observer = RecordingObserver()
        self.scheduling = FirstEndpoints()
        self.routing = Routing(random.Random(seed))
        self._ids = 0
        self.director = Director(
            routing=self.routing,
            endpoints=self.store,
            scheduling=self.scheduling,
            ledger=self.ledger,
            observer=self.observer,
            clock=lambda: self.now,
            wall_clock=lambda: 1_700_000_000.0,
            settings=DirectorSettings(BodyLimits(), boot_id="b", in_flight_limit_seconds=LIMIT_SECONDS),
            new_request_id=self._new_request_id,
        )
        self.take(resolution or resolution_of(entry_to(POOL)))

    def _new_request_id(self) -> str:
        self._ids += 1
        return f"made-{self._ids}"

    def take(self, resolution: Resolution) -> None:
        """Route by *resolution* from now on."""
        self.resolution = resolution
        self.store.replace(resolution.pools)
        self.routing.replace(resolution)

    def head(
        self,
        path: str = "/v1/chat/completions",
        *,
        method: str = "POST",
        entry: int = 0,
        stream_id: str = "",
        **headers: str,
    ) -> RequestHead:
        """Return a head that Envoy matched with the *entry*-th entry of the first virtual host."""
        host = self.resolution.listeners[0].virtual_hosts[0]
        return RequestHead(
            method=method,
            path=path,
            authority="h",
            headers={"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
            route=host.entries[entry].name,
            virtual_host=names.virtual_host_name(host),
            stream_id=stream_id,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing of any request is left."""
        director, totals = self.director, self.ledger.totals
        return (
            not director.pending
            and not director._open._by_request_id
            and not director._open._by_stream_id
            and not self.observer.running
            and (totals.requests, totals.prompt_tokens, totals.total_tokens) == (0, 0, 0)
        )
