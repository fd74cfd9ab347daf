"""The written form of an `EndpointPickerConfig`: which keys there are, and which of them have no effect here."""

from collections.abc import Hashable
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PluginEntry(_Section):
    """One plugin with its parameters; its name is its type unless given."""

    type: Name
    name: Name | None = None
    parameters: dict[str, JsonValue] | None = None

    @property
    def plugin_name(self) -> str:
        """What profiles refer to it by."""
        return self.name or self.type


class ProfilePlugin(_Section):
    """One plugin of a profile; the weight is for scorers, 1 unless given."""

    plugin_ref: Name
    weight: Annotated[float, Field(ge=0)] | None = None


class ProfileEntry(_Section):
    """One scheduling profile."""

    name: Name
    plugins: tuple[ProfilePlugin, ...] = ()


class PluginReference(_Section):
    """A section that names one plugin."""

    plugin_ref: str | None = None


class DataLayerSection(_Section):
    """How the reference picker is told what to scrape; keys only."""

    inject_defaults: JsonValue = None
    sources: JsonValue = None
    discovery: JsonValue = None
    peer_discovery: JsonValue = None
    cross_replica_syncer_plugin_ref: JsonValue = None
    cross_replica_sync_interval: JsonValue = None


class RequestHandlerSection(_Section):
    """How the reference picker is told to read bodies; keys only."""

    parsers: JsonValue = None


class FlowControlSection(_Section):
    """How the reference picker is told to queue; keys only."""

    max_bytes: JsonValue = None
    max_requests: JsonValue = None
    default_request_ttl: JsonValue = Field(default=None, alias="defaultRequestTTL")
    no_endpoint_request_ttl: JsonValue = Field(default=None, alias="noEndpointRequestTTL")
    default_priority_band: JsonValue = None
    default_negative_priority_band: JsonValue = None
    priority_bands: JsonValue = None
    usage_limit_policy_plugin_ref: JsonValue = None
    saturation_detector: JsonValue = None
    enable_eviction: JsonValue = None


class SchedulingDocument(_Section):
    """The whole file."""

    api_version: Literal[
        "llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1", "config.inferencegateway.dev/v1alpha1"
    ]
    kind: Literal["EndpointPickerConfig"]
    plugins: tuple[PluginEntry, ...] = ()
    scheduling_profiles: tuple[ProfileEntry, ...] = ()
    feature_gates: tuple[str, ...] = ()
    saturation_detector: PluginReference | None = None
    data_layer: DataLayerSection | None = None
    parser: PluginReference | None = None
    request_handler: RequestHandlerSection | None = None
    flow_control: FlowControlSection | None = None


SECTIONS_WITHOUT_EFFECT = {
    "saturation_detector": "saturationDetector",
    "data_layer": "dataLayer",
    "parser": "parser",
    "request_handler": "requestHandler",
    "flow_control": "flowControl",
}
"""Sections that are checked and then left alone: attribute and key."""

PLUGINS_WITHOUT_EFFECT = frozenset(
    {
        "concurrency-detector",
        "core-metrics-extractor",
        "edf-ordering-policy",
        "fcfs-ordering-policy",
        "global-strict-fairness-policy",
        "inflight-load-producer",
        "metrics-data-source",
        "models-data-extractor",
        "models-data-source",
        "openai-parser",
        "passthrough-parser",
        "round-robin-fairness-policy",
        "slo-deadline-ordering-policy",
        "static-usage-limit-policy",
        "token-producer",
        "utilization-detector",
    }
)
"""Plugin types that belong to those sections, or whose work is always done here; they may be declared."""

PARAMETERS_WITHOUT_EFFECT = {
    "active-request-scorer": frozenset({"requestTimeout"}),
    "approx-prefix-cache-producer": frozenset({"autoTune", "maxPrefixTokensToMatch"}),
    "prefix-cache-scorer": frozenset(
        {"blockSize", "hashBlockSize", "lruCapacityPerServer", "maxPrefixBlocksToMatch", "prefixMatchInfoProducerName"}
    ),
}
"""Parameters of the reference's plugins that ours do not have, by type; older releases set the prefix cache's bounds on
its scorer."""


class UniqueKeyLoader(yaml.SafeLoader):
    """Loads plain YAML values and refuses a mapping with the same key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Return the mapping; ConstructorError for a repeated key."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        repeated = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
        if repeated is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)
