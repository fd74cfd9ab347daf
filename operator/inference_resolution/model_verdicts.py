"""Conditions of an InferenceModel."""

from collections.abc import Mapping
from dataclasses import dataclass

from inference_resolution.direct_models import DirectModels, ModelClaim
from inference_resolution.models import PoolModels
from inference_resolution.pools import PoolOutcome
from inference_resolution.resolved import ObjectKey, PoolKey, Verdict


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What decides about the models of a resolution.

    Attributes:
        models: Winners, losers and models without a pool.
        claims: One per model that won its name within its pool.
        direct: What the claims led to.
        reached: Pools that a route or model reaches.
        outcomes: Which pools can be served.
    """

    models: PoolModels
    claims: Mapping[ObjectKey, ModelClaim]
    direct: DirectModels
    reached: frozenset[PoolKey]
    outcomes: Mapping[PoolKey, PoolOutcome]


def model_verdicts(key: ObjectKey, model_name: str, facts: ModelFacts) -> tuple[Verdict, Verdict]:
    """Return Accepted and ResolvedRefs of the model *key*; a model without a usable pool is neither."""
    problem = _pool_problem(key, facts)
    if problem is not None:
        reason, message = problem
        return (
            Verdict(key, None, "Accepted", "False", reason, message),
            Verdict(key, None, "ResolvedRefs", "False", reason, message),
        )
    reason, message = _acceptance(key, model_name, facts)
    return (
        Verdict(key, None, "Accepted", "True" if reason == "Accepted" else "False", reason, message),
        Verdict(key, None, "ResolvedRefs", "True", "ResolvedRefs", "The pool of the model exists."),
    )


def _pool_problem(key: ObjectKey, facts: ModelFacts) -> tuple[str, str] | None:
    if key in facts.models.unresolved:
        return facts.models.unresolved[key]
    winner = facts.models.losers.get(key, key)
    pool = facts.outcomes[facts.claims[winner].model.pool]
    if refusal := pool.refusal or pool.picker_problem:
        return "BackendNotFound", f"InferencePool {pool.source.key.name} cannot be served: {refusal}"
    return None


def _acceptance(key: ObjectKey, name: str, facts: ModelFacts) -> tuple[str, str]:
    """Return reason and message of Accepted; it holds exactly with the reason ``Accepted``."""
    if owner := facts.models.losers.get(key):
        taken = f"Model name {name!r} is taken by the older InferenceModel {owner.namespace}/{owner.name}"
        return "ModelNameInUse", f"{taken} of the same pool."
    if owner := facts.direct.losers.get(key):
        taken = (
            f"Model name {name!r} is taken on the Gateway by the older InferenceModel {owner.namespace}/{owner.name}"
        )
        return "ModelNameInUse", f"{taken}; only HTTPRoutes to the pool of this one reach it."
    claim = facts.claims[key]
    if any(parent.hosts for parent in claim.parents):
        return "Accepted", f"Model {name!r} is offered on the Gateway."
    if claim.model.pool in facts.reached:
        return "Accepted", f"Model {name!r} is reached through HTTPRoutes to its pool."
    if claim.parents:
        return claim.parents[0].reason, claim.parents[0].message
    return (
        "NoMatchingParent",
        "The model names no Gateway that is served here, there is no default one, and no HTTPRoute reaches its pool.",
    )
