"""Pools: which can be served, who picks for them, and everything that decides how."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inference_api.names import (
    ENDPOINT_PICKER_ANNOTATION,
    ENDPOINT_PICKER_ANNOTATION_VALUE,
    ENDPOINT_PICKER_SERVICE,
)
from inference_resolution.endpoints import pool_endpoints
from inference_resolution.inventory import Inventory, PoolSource
from inference_resolution.models import PoolModels
from inference_resolution.pool_settings import InvalidPoolSettings, PoolSettings, read_pool_settings
from inference_resolution.resolved import (
    AppProtocol,
    FailureMode,
    ObjectKey,
    PoolKey,
    ResolvedPool,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """Whether a pool can be served.

    Attributes:
        source: The pool.
        settings: None: refused, see `refusal`.
        foreign_picker: Service of another project's picker, empty for ours.
        refusal: Why it cannot be served, empty if it can.
        picker_problem: Why the picker it refers to cannot be called, empty if it can; such a pool is refused too.
        note: What is worth knowing of a pool that is served.
    """

    source: PoolSource
    settings: PoolSettings | None
    foreign_picker: str = ""
    refusal: str = ""
    picker_problem: str = ""
    note: str = ""

    def verdicts(self, gateway: ObjectKey) -> tuple[Verdict, Verdict]:
        """Return the conditions of the pool for a Gateway that reaches it."""
        subject = self.source.subject
        if self.refusal:
            accepted = Verdict(subject, gateway, "Accepted", "False", "InvalidParameters", self.refusal)
        else:
            message = self.note or "The pool is served by the Gateway."
            accepted = Verdict(subject, gateway, "Accepted", "True", "Accepted", message)
        if self.picker_problem:
            resolved = Verdict(subject, gateway, "ResolvedRefs", "False", "InvalidExtensionRef", self.picker_problem)
        else:
            message = "The endpoint picker of the pool is known."
            resolved = Verdict(subject, gateway, "ResolvedRefs", "True", "ResolvedRefs", message)
        return accepted, resolved


def judge_pools(inventory: Inventory, *, standalone: bool) -> dict[PoolKey, PoolOutcome]:
    """Return the outcome of every pool; *standalone* means that our picker serves all of them."""
    return {key: _judge(source, inventory, standalone=standalone) for key, source in inventory.pools.items()}


def _judge(source: PoolSource, inventory: Inventory, *, standalone: bool) -> PoolOutcome:
    try:
        settings = read_pool_settings(source.pool, inventory.secrets)
    except InvalidPoolSettings as exc:
        return PoolOutcome(source, None, refusal=str(exc))
    ref = source.pool.spec.endpoint_picker_ref
    chosen = source.pool.metadata.annotations.get(ENDPOINT_PICKER_ANNOTATION)
    if chosen not in {None, ENDPOINT_PICKER_ANNOTATION_VALUE}:
        refusal = f"Annotation {ENDPOINT_PICKER_ANNOTATION}: must be {ENDPOINT_PICKER_ANNOTATION_VALUE}."
        return PoolOutcome(source, None, refusal=refusal)
    if ref is None or chosen is not None or (ref.group, ref.kind, ref.name) == ("", "Service", ENDPOINT_PICKER_SERVICE):
        return PoolOutcome(source, settings)
    if standalone:
        note = f"The pool is served; the endpoint picker {ref.name} cannot be called here, the built-in one picks."
        return PoolOutcome(source, settings, note=note)
    if problem := _picker_problem(source, inventory):
        return PoolOutcome(source, settings, picker_problem=problem)
    return PoolOutcome(source, settings, foreign_picker=ref.name)


def _picker_problem(source: PoolSource, inventory: Inventory) -> str:
    ref = source.pool.spec.endpoint_picker_ref
    if ref is None:
        return ""
    if (ref.group, ref.kind) != ("", "Service"):
        return f"endpointPickerRef of kind {ref.kind} is not supported, only a Service is."
    service = inventory.services.get((source.key.namespace, ref.name))
    if service is None:
        return f"There is no Service {ref.name} in namespace {source.key.namespace}."
    if service.spec.type == "ExternalName":
        return f"Service {ref.name} is of type ExternalName, which is not supported."
    if ref.port is not None and all(port.port != ref.port.number for port in service.spec.ports):
        return f"Service {ref.name} has no port {ref.port.number}."
    return ""


def usable_pools(outcomes: Mapping[PoolKey, PoolOutcome]) -> frozenset[PoolKey]:
    """Return the pools that can be served."""
    return frozenset(key for key, outcome in outcomes.items() if not outcome.refusal and not outcome.picker_problem)


def resolve_pools(
    keys: Iterable[PoolKey],
    outcomes: Mapping[PoolKey, PoolOutcome],
    models: PoolModels,
    inventory: Inventory,
) -> dict[PoolKey, ResolvedPool]:
    """Return the resolved form of the pools *keys*, in their order; those that cannot be served are left out."""
    pools: dict[PoolKey, ResolvedPool] = {}
    for key in keys:
        outcome = outcomes[key]
        settings = outcome.settings
        if settings is None:
            continue
        spec = outcome.source.pool.spec
        ref = spec.endpoint_picker_ref
        pools[key] = ResolvedPool(
            key=key,
            endpoints=pool_endpoints(
                outcome.source.pool,
                inventory.slices.get(key.namespace, ()),
                inventory.pods.get(key.namespace, ()),
            ),
            failure_mode=FailureMode(ref.failure_mode) if ref else FailureMode.FAIL_CLOSE,
            app_protocol=AppProtocol(spec.app_protocol),
            models=models.models.get(key, {}),
            rewrites=models.rewrites.get(key, ()),
            objectives=models.objectives.get(key, {}),
            tls=settings.tls,
            api_key=settings.api_key,
            first_token_timeout_seconds=settings.first_token_timeout_seconds,
            answer_timeout_seconds=settings.answer_timeout_seconds,
            scheduling_profile=settings.scheduling_profile,
            metrics_path=settings.metrics_path,
            metrics_port=settings.metrics_port,
            rewrite_host=settings.rewrite_host,
            foreign_picker=outcome.foreign_picker,
        )
    return pools
