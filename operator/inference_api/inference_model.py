"""InferenceModel v1alpha2: a model name that clients may send, its targets and its importance.

The schema is upstream's last one and a strict superset of it: `priority`, `fallbacks`, `parentRefs` and `hostnames`
are additions.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from inference_api.metadata import StrictObject
from inference_api.parent_reference import ParentReference, parent_reference_problem
from inference_api.schema import Group, Hostname, Int32, Kind, ObjectName, StrictModel, TargetWeight, first_repeated

Criticality = Literal["Critical", "Standard", "Sheddable"]


class ModelTarget(StrictModel):
    """A model or adapter that the model servers know, and its share of the traffic."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    weight: TargetWeight | None = None


class ModelPoolRef(StrictModel):
    """The pool, of the same namespace, that serves the model.

    Attributes:
        group: None: the legacy x-k8s.io pool if there is one of that name, else the v1 pool.
        kind: Kind of the pool.
        name: Name of the pool.
    """

    group: Group | None = None
    kind: Kind = "InferencePool"
    name: ObjectName


class InferenceModelSpec(StrictModel):
    """What clients ask for and who answers.

    Attributes:
        model_name: Name that clients send; cannot be changed.
        criticality: None counts as Standard.
        target_models: Weighted targets; none: the model name itself.
        pool_ref: Who serves it.
        priority: Overrides what the criticality implies.
        fallbacks: Names of InferenceModels to turn to when this one cannot answer.
        parent_refs: Gateways it is offered on; none: the default Gateway.
        hostnames: Hosts it is offered on; none: all of the listener.
    """

    model_name: Annotated[str, Field(min_length=1, max_length=256)]
    criticality: Criticality | None = None
    target_models: Annotated[tuple[ModelTarget, ...], Field(max_length=10)] = ()
    pool_ref: ModelPoolRef
    priority: Int32 | None = None
    fallbacks: Annotated[tuple[ObjectName, ...], Field(max_length=16)] = ()
    parent_refs: Annotated[tuple[ParentReference, ...], Field(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()

    @field_validator("target_models")
    @classmethod
    def _all_or_none_weighted(cls, targets: tuple[ModelTarget, ...]) -> tuple[ModelTarget, ...]:
        if len({target.weight is None for target in targets}) > 1:
            msg = "Weights should be set for all models, or none of the models."
            raise ValueError(msg)
        return targets

    @field_validator("fallbacks", "hostnames")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if (repeated := first_repeated(names)) is not None:
            msg = f"{repeated!r} is listed twice"
            raise ValueError(msg)
        return names


class InferenceModel(StrictObject):
    """A model offered to clients, ``inference.networking.x-k8s.io/v1alpha2``."""

    api_version: Literal["inference.networking.x-k8s.io/v1alpha2"]
    kind: Literal["InferenceModel"]
    spec: InferenceModelSpec

    @model_validator(mode="after")
    def _parents_differ(self) -> Self:
        if problem := parent_reference_problem(self.spec.parent_refs, self.metadata.namespace):
            raise ValueError(problem)
        return self
