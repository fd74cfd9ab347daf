"""InferenceModelRewrite v1alpha2: which model the model servers are asked for instead of the client's."""

from typing import Annotated, Literal

from pydantic import Field

from inference_api.inference_objective import PoolRef
from inference_api.metadata import StrictObject
from inference_api.schema import StrictModel, TargetWeight


class ModelMatch(StrictModel):
    """A model name as the client sends it."""

    type: Literal["Exact"] = "Exact"
    value: Annotated[str, Field(min_length=1)]


class RewriteMatch(StrictModel):
    """One way for a request to match; without a model it matches every request."""

    model: ModelMatch | None = None


class RewriteTarget(StrictModel):
    """A model to ask for, and its share."""

    model_rewrite: Annotated[str, Field(min_length=1)]
    weight: TargetWeight | None = None


class RewriteRule(StrictModel):
    """Matches are alternatives; none: every request of the pool."""

    matches: tuple[RewriteMatch, ...] = ()
    targets: Annotated[tuple[RewriteTarget, ...], Field(min_length=1)]


class InferenceModelRewriteSpec(StrictModel):
    """Rules of one pool."""

    pool_ref: PoolRef
    rules: tuple[RewriteRule, ...]


class InferenceModelRewrite(StrictObject):
    """Rewrites the model of requests to one pool."""

    api_version: Literal["inference.networking.x-k8s.io/v1alpha2", "llm-d.ai/v1alpha2"]
    kind: Literal["InferenceModelRewrite"]
    spec: InferenceModelRewriteSpec
