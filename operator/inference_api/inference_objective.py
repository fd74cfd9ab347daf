"""InferenceObjective v1alpha2: a priority that a request may ask for by name."""

from typing import Literal

from inference_api.metadata import StrictObject
from inference_api.names import INFERENCE_GROUP
from inference_api.schema import Group, Int32, Kind, ObjectName, StrictModel


class PoolRef(StrictModel):
    """The pool, of the same namespace, that an objective or a rewrite belongs to."""

    group: Group = INFERENCE_GROUP
    kind: Kind = "InferencePool"
    name: ObjectName


class InferenceObjectiveSpec(StrictModel):
    """Priority of requests that name the object; None counts as 0, negative may be shed."""

    pool_ref: PoolRef
    priority: Int32 | None = None


class InferenceObjective(StrictObject):
    """A named priority within one pool."""

    api_version: Literal["inference.networking.x-k8s.io/v1alpha2", "llm-d.ai/v1alpha2"]
    kind: Literal["InferenceObjective"]
    spec: InferenceObjectiveSpec
