"""What belongs to one pool: InferenceModels by name, rewrites in order of precedence, objectives by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inference_api.inference_model import InferenceModel
from inference_api.inference_model_rewrite import InferenceModelRewrite, RewriteRule
from inference_api.inference_objective import InferenceObjective, PoolRef
from inference_api.names import INFERENCE_GROUP, INFERENCE_X_GROUP, LLM_D_GROUP
from inference_resolution.inventory import Inventory, object_key, pool_version
from inference_resolution.resolved import (
    ObjectKey,
    PoolKey,
    ResolvedModel,
    ResolvedRewrite,
    TargetModel,
    Verdict,
)

_PRIORITIES: Final = {"Critical": 1, "Standard": 0, "Sheddable": -1}


@dataclass(slots=True)
class PoolModels:
    """Filled by the functions below, read by the resolution.

    Attributes:
        models: Winners by pool and model name.
        losers: InferenceModels whose name an older one of the same pool has taken, with the winner.
        unresolved: InferenceModels whose pool cannot be found, with reason and message.
        rewrites: Rules by pool, in order of precedence.
        objectives: Priorities by pool and objective name.
        verdicts: Conditions of rewrites and objectives.
    """

    models: dict[PoolKey, dict[str, ResolvedModel]] = field(default_factory=dict)
    losers: dict[ObjectKey, ObjectKey] = field(default_factory=dict)
    unresolved: dict[ObjectKey, tuple[str, str]] = field(default_factory=dict)
    rewrites: dict[PoolKey, tuple[ResolvedRewrite, ...]] = field(default_factory=dict)
    objectives: dict[PoolKey, dict[str, int]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def resolve_models(inventory: Inventory) -> PoolModels:
    """Sort models, rewrites and objectives into their pools."""
    result = PoolModels()
    for model in inventory.models:
        _take_model(model, inventory, result)
    _take_rewrites(inventory.rewrites, inventory, result)
    _take_objectives(inventory.objectives, inventory, result)
    return result


def find_pool(
    group: str | None, kind: str, namespace: str, name: str, pools: Mapping[PoolKey, object]
) -> PoolKey | tuple[str, str]:
    """Return the pool that a reference means, else reason and message; no group: the legacy pool first, then v1."""
    version = "v1" if group is None else pool_version(group)
    if kind != "InferencePool" or version is None:
        return "InvalidKind", f"{kind} of group {group or 'core'!r} is not supported, only an InferencePool is."
    legacy, current = PoolKey(namespace, name, "v1alpha2"), PoolKey(namespace, name, "v1")
    if group is None and legacy in pools:
        return legacy
    key, other = (current, legacy) if version == "v1" else (legacy, current)
    if key in pools:
        return key
    message = f"There is no InferencePool {name} in namespace {namespace}"
    if other in pools:
        found = INFERENCE_GROUP if other.version == "v1" else INFERENCE_X_GROUP
        message += f" in the group referred to, but there is one in group {found}"
    return "BackendNotFound", f"{message}."


def _take_model(model: InferenceModel, inventory: Inventory, result: PoolModels) -> None:
    subject, ref = object_key(model), model.spec.pool_ref
    pool = find_pool(ref.group, ref.kind, subject.namespace, ref.name, inventory.pools)
    if not isinstance(pool, PoolKey):
        result.unresolved[subject] = pool
        return
    winner = result.models.setdefault(pool, {}).setdefault(model.spec.model_name, resolve_model(model, pool))
    if winner.key != subject:
        result.losers[subject] = winner.key


def resolve_model(model: InferenceModel, pool: PoolKey) -> ResolvedModel:
    """Return the resolved form of *model*; `spec.priority` overrides what the criticality implies."""
    spec = model.spec
    targets = tuple(TargetModel(item.name, 1 if item.weight is None else item.weight) for item in spec.target_models)
    implied = _PRIORITIES[spec.criticality or "Standard"]
    return ResolvedModel(
        key=object_key(model),
        model_name=spec.model_name,
        pool=pool,
        targets=targets or (TargetModel(spec.model_name),),
        priority=implied if spec.priority is None else spec.priority,
        critical=spec.criticality == "Critical",
    )


def _take_rewrites(rewrites: Iterable[InferenceModelRewrite], inventory: Inventory, result: PoolModels) -> None:
    rules: dict[PoolKey, list[ResolvedRewrite]] = {}
    for rewrite in rewrites:
        subject = object_key(rewrite)
        pool = _pool_of(subject, rewrite.spec.pool_ref, inventory, result)
        if pool is None:
            continue
        taken = [_resolve_rule(subject, rule) for rule in rewrite.spec.rules]
        rules.setdefault(pool, []).extend(taken)
        result.verdicts.append(_accepted(subject, "The rewrite applies to its pool."))
        mixed = [index for index, rule in enumerate(rewrite.spec.rules) if _is_mixed(rule)]
        if mixed:
            listed = ", ".join(f"rules[{index}]" for index in mixed)
            message = f"Some targets of {listed} have no weight beside others that have one; they are never chosen."
            result.verdicts.append(Verdict(subject, None, "PartiallyInvalid", "True", "UnsupportedValue", message))
    for pool, taken in rules.items():
        # Stable: within exact and within generic rules the order stays oldest first, then rule order.
        result.rewrites[pool] = tuple(sorted(taken, key=lambda rule: not rule.models))


def _is_mixed(rule: RewriteRule) -> bool:
    return len({target.weight is None for target in rule.targets}) > 1


def _resolve_rule(subject: ObjectKey, rule: RewriteRule) -> ResolvedRewrite:
    weighted = [target for target in rule.targets if target.weight is not None]
    targets = tuple(TargetModel(item.model_rewrite, item.weight or 1) for item in weighted or rule.targets)
    names = [match.model.value for match in rule.matches if match.model is not None]
    generic = len(names) < len(rule.matches)
    return ResolvedRewrite(subject, frozenset() if generic else frozenset(names), targets)


def _take_objectives(objectives: Sequence[InferenceObjective], inventory: Inventory, result: PoolModels) -> None:
    """Take llm-d.ai objectives before those of the older group, as upstream reads only the newer where both exist."""
    owners: dict[tuple[PoolKey, str], ObjectKey] = {}
    for objective in sorted(objectives, key=lambda item: item.group != LLM_D_GROUP):
        subject = object_key(objective)
        pool = _pool_of(subject, objective.spec.pool_ref, inventory, result)
        if pool is None:
            continue
        owner = owners.setdefault((pool, subject.name), subject)
        if owner != subject:
            message = f"{owner.kind} {owner.name} of group {owner.group} has the same name and pool."
            result.verdicts.append(Verdict(subject, None, "Accepted", "False", "ObjectiveNameInUse", message))
            continue
        result.objectives.setdefault(pool, {})[subject.name] = objective.spec.priority or 0
        result.verdicts.append(_accepted(subject, "Requests to its pool may name the objective."))


def _pool_of(subject: ObjectKey, ref: PoolRef, inventory: Inventory, result: PoolModels) -> PoolKey | None:
    pool = find_pool(ref.group, ref.kind, subject.namespace, ref.name, inventory.pools)
    if isinstance(pool, PoolKey):
        return pool
    reason, message = pool
    result.verdicts.append(Verdict(subject, None, "Accepted", "False", reason, message))
    return None


def _accepted(subject: ObjectKey, message: str) -> Verdict:
    return Verdict(subject, None, "Accepted", "True", "Accepted", message)
