"""Resource models: upstream's defaults and rules, with upstream's words where it has them."""

from typing import Any

import pytest

from inference_api.inference_model import InferenceModel
from inference_api.inference_pool import InferencePool
from inference_api.inference_pool_v1alpha2 import InferencePoolV1Alpha2
from inference_api.problems import ValidationProblems
from inference_api.resources import parse_resource, validate_update

X = "inference.networking.x-k8s.io/v1alpha2"


def document(api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "a", "x": 1},
        "spec": spec,
        "status": {"z": 1},
    }


def pool(**changes: Any) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 80}], **changes}
    return document("inference.networking.k8s.io/v1", "InferencePool", spec)


def model(**changes: Any) -> dict[str, Any]:
    return document(X, "InferenceModel", {"modelName": "m", "poolRef": {"name": "p"}, **changes})


def route(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return document("gateway.networking.k8s.io/v1", "HTTPRoute", {"rules": list(rules), **changes})


def problems(value: dict[str, Any]) -> list[str]:
    try:
        parse_resource(value)
    except ValidationProblems as exc:
        return [str(problem) for problem in exc.problems]
    return []


PORTS = "port is required when kind is 'Service' or unspecified (defaults to 'Service')"
WEIGHTS = "Weights should be set for all models, or none of the models."
PATH = "when type one of ['Exact', 'PathPrefix']"
MATCHES = (
    "spec.rules: While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a "
    "route must be less than 128"
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(pool(), [], id="pool"),
        pytest.param(pool(endpointPickerRef=None), [], id="null-is-absent"),
        pytest.param(
            pool(targetPorts=[{"number": 1}, {"number": 1}]),
            ["spec.targetPorts: port number must be unique"],
            id="ports",
        ),
        pytest.param(pool(endpointPickerRef={"name": "e"}), [f"spec.endpointPickerRef: {PORTS}"], id="picker-port"),
        pytest.param(
            pool(endpointPickerRef={"name": "e", "port": {"number": 1}, "failureMode": "FailClosed"}),
            [
                (
                    'spec.endpointPickerRef.failureMode: Unsupported value: "FailClosed": '
                    'supported values: "FailOpen", "FailClose"'
                )
            ],
            id="failure-mode",
        ),
        pytest.param(
            pool(selector={"matchLabels": {}}), ["spec.selector.matchLabels: must have at least 1 items"], id="sel"
        ),
        pytest.param(pool(foo=1), ["spec.foo: unknown field"], id="unknown-field"),
        pytest.param(
            model(priority=3, fallbacks=["n"], hostnames=["a.b"], parentRefs=[{"name": "g"}]), [], id="additions"
        ),
        pytest.param(
            model(targetModels=[{"name": "a", "weight": 1}, {"name": "b"}]),
            [f"spec.targetModels: {WEIGHTS}"],
            id="weights",
        ),
        pytest.param(
            model(targetModels=[{"name": "a", "weight": 0}]),
            ["spec.targetModels[0].weight: must be greater than or equal to 1"],
            id="weight-zero",
        ),
        pytest.param(
            route({"backendRefs": [{"name": "s"}]}),
            ["spec.rules[0].backendRefs[0]: Must have port for Service reference"],
            id="service-port",
        ),
        pytest.param(
            route({"backendRefs": [{"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "p"}]}),
            [],
            id="pool-needs-no-port",
        ),
        pytest.param(
            route({"matches": [{"path": {"value": "/a/%2f"}}]}),
            [f"spec.rules[0].matches[0].path: must not contain '%2f' {PATH}"],
            id="path",
        ),
        pytest.param(route(*[{"matches": [{}] * 64}] * 2), [], id="128-matches"),
        pytest.param(route(*[{"matches": [{}] * 43}] * 3), [MATCHES], id="129-matches"),
        pytest.param(
            route({"retry": {"attempts": 2}, "timeouts": {"request": "0s", "backendRequest": "1s"}}), [], id="retry"
        ),
        pytest.param(
            route({"timeouts": {"request": "1s", "backendRequest": "2s"}}),
            ["spec.rules[0].timeouts: backendRequest timeout cannot be longer than request timeout"],
            id="timeouts",
        ),
        pytest.param(
            route({}, hostnames=["1.2.3.4"]),
            ["spec.hostnames[0]: '1.2.3.4' is an IP address; a hostname is wanted"],
            id="ip-is-no-hostname",
        ),
    ],
)
def test_validation(value: dict[str, Any], expected: list[str]) -> None:
    assert problems(value) == expected


def test_the_legacy_pool_converts_to_v1() -> None:
    spec = {"selector": {"a": "b"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}}
    legacy = parse_resource(document(X, "InferencePool", spec))
    assert isinstance(legacy, InferencePoolV1Alpha2)
    converted = legacy.to_v1()
    assert isinstance(converted, InferencePool)
    assert converted.spec.selector.match_labels == {"a": "b"}
    assert [port.number for port in converted.spec.target_ports] == [8000]
    ref = converted.spec.endpoint_picker_ref
    assert ref is not None
    assert (ref.name, ref.port and ref.port.number, ref.failure_mode) == ("epp", 9002, "FailClose")


def test_a_model_name_cannot_be_changed() -> None:
    old, new = parse_resource(model()), parse_resource(model(modelName="n"))
    assert isinstance(old, InferenceModel)
    assert isinstance(new, InferenceModel)
    assert [str(problem) for problem in validate_update(old, new)] == ["spec.modelName: modelName is immutable"]
    assert validate_update(old, old) == ()
