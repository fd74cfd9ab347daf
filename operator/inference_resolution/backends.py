"""backendRefs of routes: the pool or Service they mean, or why they mean nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from inference_api.http_route import HTTPBackendRef
from inference_resolution.filters import header_change, reserved_headers, unsupported_backend_filters
from inference_resolution.grants import may_refer
from inference_resolution.inventory import Inventory, pool_version
from inference_resolution.models import find_pool
from inference_resolution.pools import PoolOutcome
from inference_resolution.resolved import ObjectKey, PoolKey, ResolvedBackend, ServiceKey
from inference_resolution.services import service_problem


@dataclass(slots=True)
class BackendProblems:
    """What was found wrong while the backends of one route were resolved, in order: (reason, message).

    Attributes:
        references: For condition ResolvedRefs.
        values: For condition PartiallyInvalid.
        pools: Every pool that was found and may be referred to, also one that cannot be served.
    """

    references: list[tuple[str, str]] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    pools: list[PoolKey] = field(default_factory=list)


def resolve_backend(
    route: ObjectKey,
    ref: HTTPBackendRef,
    inventory: Inventory,
    outcomes: Mapping[PoolKey, PoolOutcome],
    problems: BackendProblems,
) -> ResolvedBackend:
    """Return the backend of *ref*; its target is None where the reference is invalid, which *problems* then says."""
    target = _target(route, ref, inventory, outcomes, problems)
    if unsupported := unsupported_backend_filters(ref.filters):
        problems.values.append(f"Filters of type {', '.join(unsupported)} on a backendRef are not supported.")
        target = None
    if reserved := reserved_headers(ref.filters):
        problems.values.append(f"Headers {', '.join(reserved)} are the gateway's own and stay as they are.")
    return ResolvedBackend(target, ref.weight, header_change(ref.filters, "request_header_modifier"))


def _target(
    route: ObjectKey,
    ref: HTTPBackendRef,
    inventory: Inventory,
    outcomes: Mapping[PoolKey, PoolOutcome],
    problems: BackendProblems,
) -> PoolKey | ServiceKey | None:
    namespace = ref.namespace or route.namespace
    is_service = (ref.group, ref.kind) == ("", "Service")
    if not is_service and (ref.kind != "InferencePool" or pool_version(ref.group) is None):
        message = f"{ref.kind} of group {ref.group or 'core'!r} is not supported as a backend."
        problems.references.append(("InvalidKind", message))
        return None
    if not may_refer(route, ObjectKey(ref.group, ref.kind, namespace, ref.name), inventory.grants):
        message = f"No ReferenceGrant in namespace {namespace} lets the route refer to {ref.kind} {ref.name}."
        problems.references.append(("RefNotPermitted", message))
        return None
    if is_service:
        return _service(ref, namespace, inventory, problems)
    pool = find_pool(ref.group, ref.kind, namespace, ref.name, inventory.pools)
    if not isinstance(pool, PoolKey):
        problems.references.append(pool)
        return None
    problems.pools.append(pool)
    outcome = outcomes[pool]
    if refusal := outcome.refusal or outcome.picker_problem:
        problems.references.append(("BackendNotFound", f"InferencePool {ref.name} cannot be served: {refusal}"))
        return None
    return pool


def _service(ref: HTTPBackendRef, namespace: str, inventory: Inventory, problems: BackendProblems) -> ServiceKey | None:
    service = inventory.services.get((namespace, ref.name))
    if service is None or ref.port is None:
        message = f"There is no Service {ref.name} in namespace {namespace}."
        problems.references.append(("BackendNotFound", message))
        return None
    if problem := service_problem(service, ref.port):
        problems.references.append(problem)
        return None
    return ServiceKey(namespace, ref.name, ref.port)
