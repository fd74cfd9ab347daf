"""Entries of InferenceModels that are attached to a Gateway themselves, without an HTTPRoute.

One rule per pool, and one entry for the model names it won on a host. Two pools that claim the same name on the same
host of a Gateway: the oldest InferenceModel wins.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inference_resolution.attachment import ListenerId, ParentOutcome
from inference_resolution.precedence import RankedEntry
from inference_resolution.resolved import (
    ObjectKey,
    PoolKey,
    ResolvedBackend,
    ResolvedModel,
    ResolvedRule,
    RouteEntry,
    RouteMatch,
)


@dataclass(frozen=True, slots=True)
class ModelClaim:
    """An attached InferenceModel that won its name within its pool."""

    model: ResolvedModel
    rank: int
    parents: tuple[ParentOutcome, ...]


@dataclass(slots=True)
class DirectModels:
    """What the claims lead to.

    Attributes:
        entries: By listener and host pattern.
        losers: InferenceModels that got no host at all, with the winner they met first.
        gateways: Gateways that reach a pool by its models.
    """

    entries: dict[ListenerId, dict[str, list[RankedEntry]]] = field(default_factory=dict)
    losers: dict[ObjectKey, ObjectKey] = field(default_factory=dict)
    gateways: dict[PoolKey, set[ObjectKey]] = field(default_factory=lambda: defaultdict(set))


def direct_models(claims: Iterable[ModelClaim], usable: frozenset[PoolKey]) -> DirectModels:
    """Resolve *claims*, oldest first; a pool that is not in *usable* gets an entry that answers 500."""
    result = DirectModels()
    owners: dict[tuple[ObjectKey, str, str], ResolvedModel] = {}
    won: dict[tuple[ListenerId, str], dict[PoolKey, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    for claim in sorted(claims, key=lambda item: item.rank):
        model, lost_to, served = claim.model, None, False
        for parent in claim.parents:
            for listener, hosts in parent.hosts.items():
                for host in hosts:
                    owner = owners.setdefault((listener.gateway, host, model.model_name), model)
                    if owner.pool != model.pool:
                        lost_to = lost_to or owner.key
                        continue
                    served = True
                    won[listener, host][model.pool].append((claim.rank, model.model_name))
                    result.gateways[model.pool].add(listener.gateway)
        if not served and lost_to is not None:
            result.losers[model.key] = lost_to
    _build_entries(won, usable, result)
    return result


def _build_entries(
    won: Mapping[tuple[ListenerId, str], Mapping[PoolKey, list[tuple[int, str]]]],
    usable: frozenset[PoolKey],
    result: DirectModels,
) -> None:
    numbers: dict[PoolKey, dict[frozenset[str], RankedEntry]] = defaultdict(dict)
    for (listener, host), by_pool in won.items():
        for pool, names in by_pool.items():
            models = frozenset(name for _, name in names)
            known = numbers[pool]
            if models not in known:
                rule = ResolvedRule(
                    f"inferencemodels/{pool.cluster_name}", (ResolvedBackend(pool if pool in usable else None),)
                )
                entry = RouteEntry(f"{rule.name}/{len(known)}", RouteMatch(), rule, models)
                known[models] = RankedEntry(entry, min(rank for rank, _ in names), model_headers=1)
            result.entries.setdefault(listener, {}).setdefault(host, []).append(known[models])
