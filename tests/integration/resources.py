"""Manifest documents for tests, with the defaults that most cases share."""

from collections.abc import Mapping, Sequence
from typing import Any

from inference_api.names import GATEWAY_GROUP, INFERENCE_GROUP, INFERENCE_X_GROUP

Document = dict[str, Any]
NAMESPACE = "default"


def _metadata(name: str, **fields: Any) -> Document:
    return {"name": name, "namespace": NAMESPACE, **{key: value for key, value in fields.items() if value}}


def inference_pool(
    name: str,
    *,
    failure_mode: str = "FailClose",
    annotations: Mapping[str, str] | None = None,
    target_ports: Sequence[int] = (8000,),
    **spec: Any,
) -> Document:
    return {
        "apiVersion": f"{INFERENCE_GROUP}/v1",
        "kind": "InferencePool",
        "metadata": _metadata(name, annotations=dict(annotations or {})),
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "targetPorts": [{"number": port} for port in target_ports],
            "endpointPickerRef": {
                "name": "inference-gateway-endpoint-picker",
                "port": {"number": 9002},
                "failureMode": failure_mode,
            },
            **spec,
        },
    }


def endpoint_slices(
    pool: str, ports: Sequence[int], *, labels: Mapping[str, str] | None = None, ip: str = "127.0.0.1"
) -> list[Document]:
    """One slice per port; without *labels* those that a pool of this name selects."""
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": _metadata(f"{pool}-{port}", labels=dict(labels or {"app": pool})),
            "addressType": "IPv4",
            "ports": [{"name": "http", "protocol": "TCP", "port": port}],
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True}}],
        }
        for port in ports
    ]


def pool_with(name: str, ports: Sequence[int], **fields: Any) -> list[Document]:
    """A pool and its endpoints on loopback."""
    return [inference_pool(name, **fields), *endpoint_slices(name, ports)]


def inference_model(name: str, *, pool: str, model_name: str = "", **spec: Any) -> Document:
    return {
        "apiVersion": f"{INFERENCE_X_GROUP}/v1alpha2",
        "kind": "InferenceModel",
        "metadata": _metadata(name),
        "spec": {
            "modelName": model_name or name,
            "poolRef": {"group": INFERENCE_GROUP, "kind": "InferencePool", "name": pool},
            **spec,
        },
    }


def service(name: str, ports: Sequence[int], **port_fields: Any) -> list[Document]:
    """A Service on port 80 with endpoints on loopback."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(name),
            "spec": {"ports": [{"name": "http", "port": 80, **port_fields}]},
        },
        *endpoint_slices(name, ports, labels={"kubernetes.io/service-name": name}),
    ]


def secret(name: str, **values: str) -> Document:
    """Underscores in the keys of *values* stand for what each key spells with a dot or a hyphen."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(name),
        "stringData": {{"ca_crt": "ca.crt", "api_key": "api-key"}[key]: value for key, value in values.items()},
    }


def to_pool(name: str, **fields: Any) -> Document:
    return {"group": INFERENCE_GROUP, "kind": "InferencePool", "name": name, **fields}


def to_service(name: str, **fields: Any) -> Document:
    return {"name": name, "port": 80, **fields}


def rule(path: str = "/", *backends: Document, path_type: str = "PathPrefix", **fields: Any) -> Document:
    """One rule with one match; *fields* named ``model``, ``headers``, ``query`` or ``method`` narrow the match."""
    match: Document = {"path": {"type": path_type, "value": path}}
    headers = list(fields.pop("headers", ()))
    if model := fields.pop("model", ""):
        headers.append({"name": "X-Gateway-Model-Name", "value": model})
    if headers:
        match["headers"] = headers
    if query := fields.pop("query", ()):
        match["queryParams"] = list(query)
    if method := fields.pop("method", ""):
        match["method"] = method
    rendered: Document = {"matches": [match], **fields}
    if backends:
        rendered["backendRefs"] = list(backends)
    return rendered


def http_route(name: str, *rules: Document, hostnames: Sequence[str] = ()) -> Document:
    spec: Document = {"rules": list(rules)}
    if hostnames:
        spec["hostnames"] = list(hostnames)
    return {
        "apiVersion": f"{GATEWAY_GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": _metadata(name),
        "spec": spec,
    }
