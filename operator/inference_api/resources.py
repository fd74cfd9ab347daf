"""The kinds that are read, and the way from a decoded document to one of them."""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from pydantic import ValidationError

from inference_api.endpoint_slice import EndpointSlice
from inference_api.gateway import Gateway
from inference_api.gateway_class import GatewayClass
from inference_api.http_route import HTTPRoute
from inference_api.inference_model import InferenceModel
from inference_api.inference_model_rewrite import InferenceModelRewrite
from inference_api.inference_objective import InferenceObjective
from inference_api.inference_pool import InferencePool
from inference_api.inference_pool_v1alpha2 import InferencePoolV1Alpha2
from inference_api.metadata import group_of
from inference_api.names import GATEWAY_GROUP, INFERENCE_GROUP, INFERENCE_X_GROUP, LLM_D_GROUP, OWN_GROUP
from inference_api.pod import Pod
from inference_api.problems import FieldProblem, ValidationProblems, problems_of, type_name
from inference_api.reference_grant import ReferenceGrant
from inference_api.secret import Secret
from inference_api.service import Service

Resource: TypeAlias = (
    InferencePool
    | InferencePoolV1Alpha2
    | InferenceModel
    | InferenceObjective
    | InferenceModelRewrite
    | Gateway
    | GatewayClass
    | HTTPRoute
    | ReferenceGrant
    | Service
    | EndpointSlice
    | Pod
    | Secret
)

_GATEWAY_V1: Final = f"{GATEWAY_GROUP}/v1"
_GATEWAY_V1BETA1: Final = f"{GATEWAY_GROUP}/v1beta1"
_LLM_D: Final = f"{LLM_D_GROUP}/v1alpha2"
_LEGACY: Final = f"{INFERENCE_X_GROUP}/v1alpha2"

REGISTRY: Final[Mapping[tuple[str, str], type[Resource]]] = {
    (f"{INFERENCE_GROUP}/v1", "InferencePool"): InferencePool,
    (_LEGACY, "InferencePool"): InferencePoolV1Alpha2,
    (_LEGACY, "InferenceModel"): InferenceModel,
    (_LEGACY, "InferenceObjective"): InferenceObjective,
    (_LLM_D, "InferenceObjective"): InferenceObjective,
    (_LEGACY, "InferenceModelRewrite"): InferenceModelRewrite,
    (_LLM_D, "InferenceModelRewrite"): InferenceModelRewrite,
    (_GATEWAY_V1, "Gateway"): Gateway,
    (_GATEWAY_V1BETA1, "Gateway"): Gateway,
    (_GATEWAY_V1, "GatewayClass"): GatewayClass,
    (_GATEWAY_V1BETA1, "GatewayClass"): GatewayClass,
    (_GATEWAY_V1, "HTTPRoute"): HTTPRoute,
    (_GATEWAY_V1BETA1, "HTTPRoute"): HTTPRoute,
    (_GATEWAY_V1BETA1, "ReferenceGrant"): ReferenceGrant,
    (_GATEWAY_V1, "ReferenceGrant"): ReferenceGrant,
    ("v1", "Service"): Service,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
    ("v1", "Pod"): Pod,
    ("v1", "Secret"): Secret,
}
"""Model of every (apiVersion, kind) that is read."""

_CLAIMED_GROUPS: Final = frozenset({INFERENCE_GROUP, INFERENCE_X_GROUP, LLM_D_GROUP, OWN_GROUP})
_API_VERSION: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?\Z")
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*\Z")


def parse_resource(document: Mapping[str, object]) -> Resource | None:
    """Return the resource that *document* describes; None for a kind that is well formed but not read here.

    Null fields count as absent, as in the API server.

    Raises:
        ValidationProblems: The document is no Kubernetes object, its group is one of ours and its kind or version is
            not supported, or its fields are invalid.
    """
    api_version, kind = document.get("apiVersion"), document.get("kind")
    problems = [
        FieldProblem((name,), "is required" if value is None else f"must be a string, not {type_name(value)}")
        for name, value in (("apiVersion", api_version), ("kind", kind))
        if not isinstance(value, str) or not value
    ]
    if problems or not isinstance(api_version, str) or not isinstance(kind, str):
        raise ValidationProblems(problems)
    model = REGISTRY.get((api_version, kind))
    if model is None:
        _check_ignorable(api_version, kind)
        return None
    try:
        return model.model_validate(_without_nulls(document))
    except ValidationError as exc:
        raise ValidationProblems(problems_of(exc)) from None


def _check_ignorable(api_version: str, kind: str) -> None:
    """Raise ValidationProblems unless the kind is somebody else's."""
    if not _API_VERSION.match(api_version):
        raise ValidationProblems([FieldProblem(("apiVersion",), f"{api_version[:100]!r} is not a group and version")])
    if not _KIND.match(kind) or len(kind) > 63:
        raise ValidationProblems([FieldProblem(("kind",), f"{kind[:100]!r} is not a kind")])
    group = group_of(api_version)
    versions = sorted(known for known, name in REGISTRY if name == kind and group_of(known) == group)
    if versions:
        message = f"{api_version!r} is not supported for {kind}; supported: {', '.join(versions)}"
        raise ValidationProblems([FieldProblem(("apiVersion",), message)])
    spelt = sorted({name for known, name in REGISTRY if name.lower() == kind.lower() and group_of(known) == group})
    if spelt:
        raise ValidationProblems([FieldProblem(("kind",), f"{kind!r} is not a kind; did you mean {spelt[0]}?")])
    if group in _CLAIMED_GROUPS or group.endswith(f".{OWN_GROUP}"):
        supported = sorted({f"{known} {name}" for known, name in REGISTRY if group_of(known) == group})
        message = f"{api_version} {kind} is not supported; supported: {', '.join(supported) or 'nothing in this group'}"
        raise ValidationProblems([FieldProblem(("kind",), message)])


def _without_nulls(value: object) -> object:
    """Drop null fields of mappings, at every depth; documents are bounded in depth where they are decoded."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value


def validate_update(old: Resource, new: Resource) -> tuple[FieldProblem, ...]:
    """Return what forbids the change from *old* to *new* although both are valid by themselves; empty if nothing."""
    if (
        isinstance(old, InferenceModel)
        and isinstance(new, InferenceModel)
        and old.spec.model_name != new.spec.model_name
    ):
        return (FieldProblem(("spec", "modelName"), "modelName is immutable"),)
    return ()
