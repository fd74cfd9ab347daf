"""EndpointPickerConfig: the reference's files work, nothing unknown passes, every problem is told at once."""

from typing import Any

import pytest
import yaml

from endpoint_picker.config.scheduling import SchedulingConfigError, read_scheduling
from endpoint_picker.scheduling.catalog import PARAMETERS
from endpoint_picker.scheduling.costs.prefill_backlog import PrefillBacklogCost
from endpoint_picker.scheduling.filters.label_selector import LabelOperator, LabelRequirement, LabelSelectorFilter
from endpoint_picker.scheduling.pickers.parameters import PickerParameters
from endpoint_picker.scheduling.producers.approx_prefix_cache import ApproxPrefixCacheParameters
from endpoint_picker.scheduling.profile import NamedCost, WeightedScorer
from endpoint_picker.scheduling.scorers.active_request import ActiveRequestScorer
from endpoint_picker.scheduling.scorers.kv_cache_utilization import KvCacheUtilizationScorer
from endpoint_picker.scheduling.scorers.prefix_cache import PrefixCacheScorer
from endpoint_picker.scheduling.scorers.queue import QueueScorer
from endpoint_picker.scheduling.settings import DEFAULT_SETTINGS, PickerSettings, ProfileSettings, SchedulingSettings

HEAD = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"}


def read(**sections: Any) -> tuple[SchedulingSettings, tuple[str, ...]]:
    return read_scheduling(yaml.safe_dump({**HEAD, **sections}))


def problems(**sections: Any) -> tuple[str, ...]:
    with pytest.raises(SchedulingConfigError) as caught:
        read(**sections)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def profile(*plugins: str, name: str = "default") -> dict[str, Any]:
    return {"name": name, "plugins": [{"pluginRef": plugin} for plugin in plugins]}


def declared(*types: str) -> list[dict[str, Any]]:
    return [{"type": plugin_type} for plugin_type in types]


REFERENCE_DEFAULT = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: max-score-picker
  parameters: {maxNumOfEndpoints: 2}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2.5}
  - {pluginRef: prefix-cache-scorer}
  - {pluginRef: max-score-picker}
"""


def test_default_of_the_reference_is_read() -> None:
    assert read_scheduling(REFERENCE_DEFAULT) == (
        SchedulingSettings(
            (
                ProfileSettings(
                    "default",
                    scorers=(
                        WeightedScorer("queue-scorer", QueueScorer(), 2.0),
                        WeightedScorer("kv-cache-utilization-scorer", KvCacheUtilizationScorer(), 2.5),
                        WeightedScorer("prefix-cache-scorer", PrefixCacheScorer(), 1.0),
                    ),
                    picker=PickerSettings("max-score-picker", PickerParameters(2)),
                ),
            ),
            ApproxPrefixCacheParameters(),
        ),
        (),
    )


@pytest.mark.parametrize(
    "api_version",
    ["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1", "config.inferencegateway.dev/v1alpha1"],
)
def test_every_group_is_accepted_and_an_empty_file_is_the_default(api_version: str) -> None:
    assert read(apiVersion=api_version) == (DEFAULT_SETTINGS, ())


def test_default_list_has_three_endpoints() -> None:
    assert DEFAULT_SETTINGS.profiles[0].picker == PickerSettings("max-score-picker", PickerParameters(3))


@pytest.mark.parametrize("plugin_type", PARAMETERS)
def test_every_plugin_can_be_declared_without_parameters(plugin_type: str) -> None:
    settings, _ = read(
        plugins=declared(plugin_type, "queue-scorer")[: 1 if plugin_type == "queue-scorer" else 2],
        schedulingProfiles=[profile("queue-scorer")],
    )
    assert [s.name for s in settings.profiles[0].scorers] == ["queue-scorer"]


def test_parameters_are_camel_case() -> None:
    selector = {"matchLabels": {"gpu": "h100"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
    settings, warnings = read(
        plugins=[
            {"type": "label-selector-filter", "parameters": selector},
            {"name": "busy", "type": "active-request-scorer", "parameters": {"idleThreshold": 2, "maxBusyScore": 1}},
            {"type": "power-of-two-picker", "parameters": {"maxNumOfEndpoints": 5}},
        ],
        schedulingProfiles=[profile("label-selector-filter", "busy", "power-of-two-picker", name="mine")],
    )
    assert warnings == ()
    assert settings == SchedulingSettings(
        (
            ProfileSettings(
                "mine",
                filters=(LabelSelectorFilter({"gpu": "h100"}, (LabelRequirement("k", LabelOperator.IN, ("v",)),)),),
                scorers=(WeightedScorer("busy", ActiveRequestScorer(idle_threshold=2, max_busy_score=1.0)),),
                picker=PickerSettings("power-of-two-picker", PickerParameters(5)),
            ),
        )
    )


def test_file_without_profiles_uses_all_its_plugins() -> None:
    settings, _ = read(plugins=declared("queue-scorer", "random-picker", "single-profile-handler", "openai-parser"))
    assert settings.profiles == (
        ProfileSettings(
            "default",
            scorers=(WeightedScorer("queue-scorer", QueueScorer()),),
            picker=PickerSettings("random-picker", PickerParameters()),
        ),
    )


def test_costs_make_a_cost_profile_with_a_prefix_cache() -> None:
    settings, _ = read(plugins=declared("prefill-backlog-cost"), schedulingProfiles=[profile("prefill-backlog-cost")])
    assert settings == SchedulingSettings(
        (ProfileSettings("default", costs=(NamedCost("prefill-backlog-cost", PrefillBacklogCost()),)),),
        ApproxPrefixCacheParameters(),
    )


def test_declared_prefix_cache_is_taken() -> None:
    cache = {"type": "approx-prefix-cache-producer", "parameters": {"blockSizeTokens": 32, "lruCapacityPerServer": 9}}
    settings, warnings = read(plugins=[cache, *declared("prefix-cache-scorer")])
    assert settings.prefix_cache == ApproxPrefixCacheParameters(block_size_tokens=32, lru_capacity_per_server=9)
    assert warnings == ()


def test_several_profiles_need_a_default() -> None:
    plugins = declared("queue-scorer")
    two = [profile("queue-scorer"), profile("queue-scorer", name="batch")]
    assert [p.name for p in read(plugins=plugins, schedulingProfiles=two)[0].profiles] == ["default", "batch"]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        pytest.param(
            {"saturationDetector": {"pluginRef": "utilization-detector"}}, "saturationDetector", id="saturation"
        ),
        pytest.param({"dataLayer": {"injectDefaults": True, "sources": [{"pluginRef": "x"}]}}, "dataLayer", id="data"),
        pytest.param({"parser": {"pluginRef": "openai-parser"}}, "parser", id="parser"),
        pytest.param({"requestHandler": {"parsers": []}}, "requestHandler", id="request-handler"),
        pytest.param(
            {"flowControl": {"maxBytes": "1Gi", "defaultRequestTTL": "60s"}}, "flowControl", id="flow-control"
        ),
        pytest.param({"featureGates": ["flowControl"]}, "featureGates[0]: flowControl", id="gate"),
        pytest.param(
            {"featureGates": ["x=false", "flowControl=true"]}, "featureGates[1]: flowControl", id="second-gate"
        ),
        pytest.param({"plugins": declared("utilization-detector")}, "plugins[0]: plugin type", id="plugin"),
        pytest.param(
            {"plugins": [{"type": "active-request-scorer", "parameters": {"requestTimeout": "2m"}}]},
            "plugins[0].parameters.requestTimeout",
            id="parameter",
        ),
        pytest.param(
            {"plugins": declared("queue-scorer", "approx-prefix-cache-producer")},
            "plugins: nothing uses the approx-prefix-cache-producer",
            id="unused-producer",
        ),
        pytest.param(
            {
                "plugins": declared("random-picker"),
                "schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "random-picker", "weight": 2}]}],
            },
            "schedulingProfiles[0].plugins[0].weight",
            id="weight-of-a-picker",
        ),
    ],
)
def test_what_has_no_effect_is_said(sections: dict[str, Any], expected: str) -> None:
    _, warnings = read(**sections)
    assert len(warnings) == 1
    assert warnings[0].startswith(expected)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        pytest.param({"apiVersion": "v1"}, "apiVersion: ", id="api-version"),
        pytest.param({"kind": "ConfigMap"}, "kind: ", id="kind"),
        pytest.param({"pluginz": []}, "pluginz: ", id="unknown-key"),
        pytest.param({"flowControl": {"maxBites": 1}}, "flowControl.maxBites: ", id="unknown-key-without-effect"),
        pytest.param({"featureGates": ["a=maybe"]}, "featureGates[0]: 'a=maybe'", id="gate"),
        pytest.param({"plugins": declared("quue-scorer")}, "plugins[0].type: unknown plugin type", id="plugin-type"),
        pytest.param({"plugins": [{"name": "x"}]}, "plugins[0].type: ", id="plugin-without-type"),
        pytest.param(
            {"plugins": declared("queue-scorer", "queue-scorer")}, "plugins[1]: a plugin named", id="same-plugin-name"
        ),
        pytest.param(
            {"plugins": [{"type": "max-score-picker", "parameters": {"max_num_of_endpoints": 3}}]},
            "plugins[0].parameters.max_num_of_endpoints: ",
            id="snake-case-parameter",
        ),
        pytest.param(
            {"plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": "3"}}]},
            "plugins[0].parameters.maxNumOfEndpoints: ",
            id="number-in-quotes",
        ),
        pytest.param(
            {"plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 0}}]},
            "plugins[0].parameters: max_num_of_endpoints must be at least 1, got 0",
            id="parameter-out-of-range",
        ),
        pytest.param(
            {
                "plugins": [
                    {
                        "type": "label-selector-filter",
                        "parameters": {"matchExpressions": [{"key": "k", "operator": "Exists", "op": "In"}]},
                    }
                ]
            },
            "plugins[0].parameters.matchExpressions[0].op: ",
            id="unknown-key-within-a-parameter",
        ),
        pytest.param(
            {"schedulingProfiles": [profile("nobody")]},
            "schedulingProfiles[0].plugins[0].pluginRef: no plugin named 'nobody'; declared: none",
            id="undeclared",
        ),
        pytest.param(
            {"plugins": declared("queue-scorer"), "schedulingProfiles": [profile("queue-scorer", "queue-scorer")]},
            "schedulingProfiles[0].plugins[1].pluginRef: 'queue-scorer' is in this profile already",
            id="twice-in-a-profile",
        ),
        pytest.param(
            {"plugins": declared("random-picker", "max-score-picker")},
            "schedulingProfiles[0]: more than one picker",
            id="two-pickers",
        ),
        pytest.param(
            {"plugins": declared("queue-scorer", "prefill-backlog-cost")},
            "schedulingProfiles[0]: scores and seconds do not add up",
            id="scorers-and-costs",
        ),
        pytest.param(
            {"plugins": declared("prefill-backlog-cost", "weighted-random-picker")},
            "schedulingProfiles[0]: a weighted-random-picker needs scores",
            id="weighted-random-costs",
        ),
        pytest.param(
            {
                "plugins": declared("single-profile-handler"),
                "schedulingProfiles": [profile("single-profile-handler")],
            },
            "schedulingProfiles[0].plugins[0].pluginRef: plugin type single-profile-handler cannot stand in a profile",
            id="handler-in-a-profile",
        ),
        pytest.param(
            {"plugins": declared("openai-parser"), "schedulingProfiles": [profile("openai-parser")]},
            "schedulingProfiles[0].plugins[0].pluginRef: plugin type openai-parser cannot stand in a profile",
            id="plugin-without-effect-in-a-profile",
        ),
        pytest.param(
            {"schedulingProfiles": [profile(), profile()]},
            "schedulingProfiles[1].name: a profile named 'default' is there already",
            id="same-profile-name",
        ),
        pytest.param(
            {"schedulingProfiles": [profile(name="a"), profile(name="b")]},
            "schedulingProfiles: of several profiles one must be named 'default'",
            id="several-without-default",
        ),
        pytest.param(
            {"plugins": declared("single-profile-handler"), "schedulingProfiles": [profile(), profile(name="b")]},
            "schedulingProfiles: a single-profile-handler takes one profile",
            id="several-for-a-single-profile-handler",
        ),
        pytest.param(
            {"plugins": [{"name": name, "type": "single-profile-handler"} for name in "ab"]},
            "plugins: more than one profile handler: a, b",
            id="two-handlers",
        ),
        pytest.param(
            {
                "plugins": [
                    *declared("prefix-cache-scorer"),
                    *({"name": name, "type": "approx-prefix-cache-producer"} for name in "ab"),
                ]
            },
            "plugins: more than one approx-prefix-cache-producer",
            id="two-prefix-caches",
        ),
        pytest.param(
            {
                "plugins": declared("queue-scorer"),
                "schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "queue-scorer", "weight": -1}]}],
            },
            "schedulingProfiles[0].plugins[0].weight: ",
            id="negative-weight",
        ),
    ],
)
def test_problem_is_told_with_its_path(sections: dict[str, Any], expected: str) -> None:
    found = problems(**sections)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_unknown_type_lists_the_known_ones() -> None:
    (problem,) = problems(plugins=declared("mine"))
    assert all(plugin_type in problem for plugin_type in PARAMETERS)


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        plugins=[
            {"type": "mine"},
            {"type": "queue-scorer", "parameters": {"neutralSpread": -1}},
            {"type": "token-load-scorer", "parameters": {"a": 1, "b": 2}},
        ],
        schedulingProfiles=[profile("mine", "queue-scorer", "other")],
    )
    assert [problem.partition(":")[0] for problem in found] == [
        "plugins[0].type",
        "plugins[1].parameters",
        "plugins[2].parameters.a",
        "plugins[2].parameters.b",
        "schedulingProfiles[0].plugins[2].pluginRef",
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param("{", id="broken-yaml"),
        pytest.param("kind: !!python/object:os.system {}", id="python-object"),
        pytest.param("kind: !!binary /w==", id="bytes"),
        pytest.param("a: &a [*a]", id="endless"),
    ],
)
def test_text_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(SchedulingConfigError):
        read_scheduling(text)


def test_key_given_twice_is_refused() -> None:
    with pytest.raises(SchedulingConfigError, match="key 'plugins' is there twice"):
        read_scheduling(REFERENCE_DEFAULT + "plugins: []\n")
