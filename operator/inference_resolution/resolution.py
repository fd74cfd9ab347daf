"""Resolution: resources and Gateways in, everything that is served, and the conditions of every object, out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from inference_api.resources import Resource
from inference_resolution.attachment import Attacher, ListenerId
from inference_resolution.direct_models import DirectModels, ModelClaim, direct_models
from inference_resolution.inventory import Inventory, object_key, take_inventory
from inference_resolution.model_verdicts import ModelFacts, model_verdicts
from inference_resolution.models import PoolModels, resolve_models
from inference_resolution.pools import PoolOutcome, judge_pools, resolve_pools, usable_pools
from inference_resolution.precedence import RankedEntry
from inference_resolution.resolved import (
    ObjectKey,
    PoolKey,
    Resolution,
    ResolvedListener,
    ResolvedService,
    ServiceKey,
    Verdict,
)
from inference_resolution.route_verdicts import route_verdicts
from inference_resolution.rules import resolve_route
from inference_resolution.services import resolve_service
from inference_resolution.targets import GatewayTarget
from inference_resolution.virtual_hosts import build_virtual_hosts


def resolve(
    resources: Sequence[Resource],
    *,
    gateways: Sequence[GatewayTarget],
    attach_all: bool = False,
    namespace_labels: Mapping[str, Mapping[str, str]] | None = None,
    default_gateway: ObjectKey | None = None,
) -> Resolution:
    """Resolve *resources* for *gateways*. Never raises for any combination of valid resources.

    Args:
        resources: All of them; their order stands for creation time where they have none. Of objects with the same key
            the first counts.
        gateways: The Gateways to serve.
        attach_all: Every HTTPRoute and InferenceModel attaches to every listener whatever its parentRefs say, and our
            picker serves every pool (standalone).
        namespace_labels: Labels by namespace, for listeners that select namespaces by label.
        default_gateway: Gateway of InferenceModels without parentRefs.
    """
    inventory = take_inventory(resources)
    attacher = Attacher(gateways, attach_all, namespace_labels or {}, default_gateway)
    outcomes = judge_pools(inventory, standalone=attach_all)
    models = resolve_models(inventory)
    collected = _Collected()
    collected.take_routes(inventory, outcomes, attacher)
    claims = _claims(inventory, models, attacher)
    direct = direct_models([claim for claim in claims.values() if claim.parents], usable_pools(outcomes))
    collected.take_models(direct)
    facts = ModelFacts(models, claims, direct, frozenset(collected.reached), outcomes)
    judged_models = [
        verdict
        for model in inventory.models
        for verdict in model_verdicts(object_key(model), model.spec.model_name, facts)
    ]
    reached = sorted(collected.reached)
    pools = resolve_pools([key for key in reached if key in usable_pools(outcomes)], outcomes, models, inventory)
    return Resolution(
        listeners=_listeners(gateways, collected.entries),
        pools=pools,
        services=_services(collected.entries, inventory),
        verdicts=(
            *collected.verdicts,
            *(
                verdict
                for key in reached
                for at in sorted(collected.reached[key])
                for verdict in outcomes[key].verdicts(at)
            ),
            *judged_models,
            *models.verdicts,
        ),
        unreachable=tuple(sorted(key for key in inventory.pools if key not in collected.reached)),
    )


class _Collected:
    """Entries by listener and host, Gateways by pool, and the verdicts of routes."""

    def __init__(self) -> None:
        self.entries: dict[ListenerId, dict[str, list[RankedEntry]]] = defaultdict(lambda: defaultdict(list))
        self.reached: dict[PoolKey, set[ObjectKey]] = {}
        self.verdicts: list[Verdict] = []

    def take_routes(self, inventory: Inventory, outcomes: Mapping[PoolKey, PoolOutcome], attacher: Attacher) -> None:
        for route in inventory.routes:
            parents = attacher.attach(route.metadata.namespace, route.spec.parent_refs, route.spec.hostnames)
            if not parents:
                continue
            outcome = resolve_route(route, inventory, outcomes)
            self.verdicts.extend(route_verdicts(outcome, parents))
            for parent in parents:
                for listener, hosts in parent.hosts.items():
                    for host in hosts:
                        self.entries[listener][host].extend(outcome.entries)
                    for pool in outcome.problems.pools:
                        self.reached.setdefault(pool, set()).add(parent.gateway)

    def take_models(self, direct: DirectModels) -> None:
        for listener, hosts in direct.entries.items():
            for host, entries in hosts.items():
                self.entries[listener][host].extend(entries)
        for pool, at in direct.gateways.items():
            self.reached.setdefault(pool, set()).update(at)


def _claims(inventory: Inventory, models: PoolModels, attacher: Attacher) -> dict[ObjectKey, ModelClaim]:
    """Return a claim for every InferenceModel that won its name within its pool, whether it attaches or not."""
    winners = {model.key: model for by_name in models.models.values() for model in by_name.values()}
    claims = {}
    for model in inventory.models:
        key = object_key(model)
        if key in winners:
            parents = attacher.attach_model(key.namespace, model.spec.parent_refs, model.spec.hostnames)
            claims[key] = ModelClaim(winners[key], inventory.rank[key], tuple(parents))
    return claims


def _listeners(
    gateways: Sequence[GatewayTarget], entries: Mapping[ListenerId, Mapping[str, Sequence[RankedEntry]]]
) -> tuple[ResolvedListener, ...]:
    return tuple(
        ResolvedListener(
            gateway.key,
            listener.name,
            listener.port,
            build_virtual_hosts(entries.get(ListenerId(gateway.key, listener.name), {})),
        )
        for gateway in gateways
        for listener in gateway.listeners
    )


def _services(
    entries: Mapping[ListenerId, Mapping[str, Sequence[RankedEntry]]], inventory: Inventory
) -> dict[ServiceKey, ResolvedService]:
    keys = {
        backend.target
        for hosts in entries.values()
        for items in hosts.values()
        for item in items
        for backend in item.entry.rule.backends
        if isinstance(backend.target, ServiceKey)
    }
    return {
        key: resolve_service(
            key,
            inventory.services[key.namespace, key.name],
            inventory.slices.get(key.namespace, ()),
            inventory.pods.get(key.namespace, ()),
        )
        for key in sorted(keys)
    }
