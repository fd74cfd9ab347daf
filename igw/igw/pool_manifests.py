"""Manifests for pools that were named on the command line: pool, model, route and endpoint slices."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from igw.pool_flag import PoolFlag, ServerUrl
from inference_api.names import (
    GATEWAY_GROUP,
    HOST_REWRITE_ANNOTATION,
    INFERENCE_GROUP,
    INFERENCE_X_GROUP,
    TLS_ANNOTATION,
)

_NAMESPACE: Final = "default"
_POOL_LABEL: Final = "app.kubernetes.io/name"
_LONGEST_LABEL: Final = 50
_MOST_TARGET_PORTS: Final = 8


@dataclass(frozen=True, slots=True)
class ResolvedServer:
    """A model server and the IP address its host stands for."""

    url: ServerUrl
    ip: str


@dataclass(frozen=True, slots=True)
class PoolToServe:
    """A pool as it stands now.

    Attributes:
        flag: What the user asked for.
        servers: Those of its servers whose address is known.
        target_model: The name its servers know the model by.
    """

    flag: PoolFlag
    servers: tuple[ResolvedServer, ...]
    target_model: str


def render_manifests(pools: Sequence[PoolToServe]) -> str:
    """Return one YAML stream for all *pools*; equal pools give equal text."""
    names = object_names([pool.flag.name for pool in pools])
    documents: list[dict[str, Any]] = []
    for name, pool in zip(names, pools, strict=True):
        documents += [_pool(name, pool), _model(name, pool), _route(name, pool, alone=len(pools) == 1)]
        documents += _slices(name, pool)
    return yaml.safe_dump_all(documents, sort_keys=False)


def object_names(model_names: Sequence[str]) -> list[str]:
    """Return a distinct DNS label for each of the distinct *model_names*, like the name where it can be."""
    labels = [_label(name) for name in model_names]
    return [
        label if label == name or (label and labels.count(label) == 1) else f"{label or 'pool'}-{_digest(name)}"
        for name, label in zip(model_names, labels, strict=True)
    ]


def _label(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST_LABEL].strip("-")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": _NAMESPACE}


def _pool(name: str, pool: PoolToServe) -> dict[str, Any]:
    annotations = {}
    if pool.flag.servers[0].scheme == "https":
        annotations[TLS_ANNOTATION] = "verify"
    if any(server.dns_name for server in pool.flag.servers):
        annotations[HOST_REWRITE_ANNOTATION] = "endpoint"
    # The endpoint slices say which server has which port; the pool's own list cannot.
    ports = sorted({server.port for server in pool.flag.servers})[:_MOST_TARGET_PORTS]
    return {
        "apiVersion": f"{INFERENCE_GROUP}/v1",
        "kind": "InferencePool",
        "metadata": _metadata(name) | ({"annotations": annotations} if annotations else {}),
        "spec": {
            "selector": {"matchLabels": {_POOL_LABEL: name}},
            "targetPorts": [{"number": port} for port in ports],
        },
    }


def _model(name: str, pool: PoolToServe) -> dict[str, Any]:
    return {
        "apiVersion": f"{INFERENCE_X_GROUP}/v1alpha2",
        "kind": "InferenceModel",
        "metadata": _metadata(name),
        "spec": {
            "modelName": pool.flag.name,
            "criticality": "Standard",
            "poolRef": {"group": INFERENCE_GROUP, "kind": "InferencePool", "name": name},
            "targetModels": [{"name": pool.target_model}],
        },
    }


def _route(name: str, pool: PoolToServe, *, alone: bool) -> dict[str, Any]:
    match: dict[str, Any] = {"path": {"type": "PathPrefix", "value": "/"}}
    if not alone:
        # Two routes for everything would leave the second one unused.
        match["headers"] = [{"type": "Exact", "name": "X-Gateway-Model-Name", "value": pool.flag.name}]
    backend = {"group": INFERENCE_GROUP, "kind": "InferencePool", "name": name}
    return {
        "apiVersion": f"{GATEWAY_GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": _metadata(name),
        "spec": {"rules": [{"matches": [match], "backendRefs": [backend]}]},
    }


def _slices(name: str, pool: PoolToServe) -> list[dict[str, Any]]:
    """One slice per address family and port, because ports belong to a whole slice."""
    groups: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for server in pool.servers:
        family = "IPv6" if ":" in server.ip else "IPv4"
        endpoint: dict[str, Any] = {"addresses": [server.ip], "conditions": {"ready": True}}
        if server.url.dns_name:
            endpoint["hostname"] = server.url.dns_name
        # Two names of one address are one endpoint.
        groups.setdefault((family, server.url.port), {}).setdefault(server.ip, endpoint)
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": _metadata(f"{name}-{family.lower()}-{port}") | {"labels": {_POOL_LABEL: name}},
            "addressType": family,
            "ports": [{"name": "http", "protocol": "TCP", "port": port}],
            "endpoints": list(endpoints.values()),
        }
        for (family, port), endpoints in sorted(groups.items())
    ]
