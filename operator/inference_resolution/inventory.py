"""All resources of a resolution, indexed, oldest first."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from inference_api.endpoint_slice import EndpointSlice
from inference_api.http_route import HTTPRoute
from inference_api.inference_model import InferenceModel
from inference_api.inference_model_rewrite import InferenceModelRewrite
from inference_api.inference_objective import InferenceObjective
from inference_api.inference_pool import InferencePool
from inference_api.inference_pool_v1alpha2 import InferencePoolV1Alpha2
from inference_api.names import INFERENCE_GROUP, INFERENCE_X_GROUP
from inference_api.pod import Pod
from inference_api.reference_grant import ReferenceGrant
from inference_api.resources import Resource
from inference_api.secret import Secret
from inference_api.service import Service
from inference_resolution.resolved import ObjectKey, PoolKey

_R = TypeVar("_R", HTTPRoute, InferenceModel, InferenceObjective, InferenceModelRewrite, ReferenceGrant)


def object_key(resource: Resource) -> ObjectKey:
    """Return the key of *resource*; cluster-scoped kinds have no namespace."""
    namespace = "" if resource.kind == "GatewayClass" else resource.metadata.namespace
    return ObjectKey(resource.group, resource.kind, namespace, resource.metadata.name)


def pool_version(group: str) -> Literal["v1", "v1alpha2"] | None:
    """Return the version of InferencePools of *group*, None if it has none."""
    match group:
        case _ if group == INFERENCE_GROUP:
            return "v1"
        case _ if group == INFERENCE_X_GROUP:
            return "v1alpha2"
        case _:
            return None


def _age(index: int, resource: Resource) -> tuple[bool, float, str, int]:
    """Return what sorts oldest first: creation time, then namespace/name; without a time by position, at the end."""
    created = resource.metadata.creation_timestamp
    if created is None:
        return (True, 0.0, "", index)
    return (False, created.timestamp(), f"{resource.metadata.namespace}/{resource.metadata.name}", index)


@dataclass(frozen=True, slots=True)
class PoolSource:
    """A pool in its v1 form, and the object it was written as."""

    subject: ObjectKey
    key: PoolKey
    pool: InferencePool


@dataclass(frozen=True, slots=True)
class Inventory:
    """Resources by kind, each list oldest first; of objects that share a key only the first of the input counts.

    Attributes:
        rank: Position of every object by age over all kinds; less is older.
        routes: HTTPRoutes.
        models: InferenceModels.
        objectives: InferenceObjectives.
        rewrites: InferenceModelRewrites.
        grants: ReferenceGrants by the namespace they stand in.
        pools: InferencePools of both versions.
        services: Services by (namespace, name).
        secrets: Secrets by (namespace, name).
        slices: EndpointSlices by namespace.
        pods: Pods by namespace.
    """

    rank: Mapping[ObjectKey, int]
    routes: tuple[HTTPRoute, ...]
    models: tuple[InferenceModel, ...]
    objectives: tuple[InferenceObjective, ...]
    rewrites: tuple[InferenceModelRewrite, ...]
    grants: Mapping[str, tuple[ReferenceGrant, ...]]
    pools: Mapping[PoolKey, PoolSource]
    services: Mapping[tuple[str, str], Service]
    secrets: Mapping[tuple[str, str], Secret]
    slices: Mapping[str, tuple[EndpointSlice, ...]] = field(default_factory=dict)
    pods: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)


def take_inventory(resources: Sequence[Resource]) -> Inventory:
    """Index *resources*; their order stands for creation time where they have none."""
    unique: dict[ObjectKey, tuple[int, Resource]] = {}
    for index, resource in enumerate(resources):
        unique.setdefault(object_key(resource), (index, resource))
    ordered = [resource for _, resource in sorted(unique.values(), key=lambda item: _age(*item))]

    slices: dict[str, list[EndpointSlice]] = defaultdict(list)
    pods: dict[str, list[Pod]] = defaultdict(list)
    grants: dict[str, list[ReferenceGrant]] = defaultdict(list)
    pools: dict[PoolKey, PoolSource] = {}
    services: dict[tuple[str, str], Service] = {}
    secrets: dict[tuple[str, str], Secret] = {}
    for resource in ordered:
        namespace, name = resource.metadata.namespace, resource.metadata.name
        match resource:
            case InferencePool():
                key = PoolKey(namespace, name, "v1")
                pools[key] = PoolSource(object_key(resource), key, resource)
            case InferencePoolV1Alpha2():
                key = PoolKey(namespace, name, "v1alpha2")
                pools[key] = PoolSource(object_key(resource), key, resource.to_v1())
            case EndpointSlice():
                slices[namespace].append(resource)
            case Pod():
                pods[namespace].append(resource)
            case ReferenceGrant():
                grants[namespace].append(resource)
            case Service():
                services[namespace, name] = resource
            case Secret():
                secrets[namespace, name] = resource
            case _:
                pass
    return Inventory(
        rank={object_key(resource): rank for rank, resource in enumerate(ordered)},
        routes=_of(HTTPRoute, ordered),
        models=_of(InferenceModel, ordered),
        objectives=_of(InferenceObjective, ordered),
        rewrites=_of(InferenceModelRewrite, ordered),
        grants={namespace: tuple(items) for namespace, items in grants.items()},
        pools=pools,
        services=services,
        secrets=secrets,
        slices={namespace: tuple(items) for namespace, items in slices.items()},
        pods={namespace: tuple(items) for namespace, items in pods.items()},
    )


def _of(kind: type[_R], resources: Iterable[Resource]) -> tuple[_R, ...]:
    return tuple(resource for resource in resources if isinstance(resource, kind))
