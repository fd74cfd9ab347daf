"""Endpoints of pools and Services: ready pods, and EndpointSlices that stand for them.

A pool takes the pods that its selector matches, and the EndpointSlices that it matches, except those that Kubernetes
itself makes for Services (they repeat the pods, with the Service's ports). The ports of a slice, where it lists any,
are its endpoints' ports; without ports, and for pods, the pool's targetPorts hold.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from inference_api.endpoint_slice import EndpointSlice, SliceEndpoint
from inference_api.inference_pool import InferencePool
from inference_api.names import ACTIVE_PORTS_ANNOTATIONS
from inference_api.pod import Pod
from inference_resolution.resolved import ResolvedEndpoint

_MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
_KUBERNETES_MANAGERS: Final = frozenset({"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"})


def pool_endpoints(
    pool: InferencePool, slices: Iterable[EndpointSlice], pods: Iterable[Pod]
) -> tuple[ResolvedEndpoint, ...]:
    """Return the ready endpoints of *pool*, sorted by address; slices and pods are those of its namespace."""
    wanted = pool.spec.selector.match_labels
    target_ports = tuple(port.number for port in pool.spec.target_ports)
    found: list[ResolvedEndpoint] = []
    for pod in pods:
        if _matches(wanted, pod.metadata.labels) and pod_is_ready(pod):
            ports = _active_ports(pod, target_ports)
            ranks = [(rank, port) for rank, port in enumerate(target_ports) if port in ports]
            found.extend(pod_endpoint(pod, port, rank if len(target_ports) > 1 else None) for rank, port in ranks)
    for item in slices:
        if item.metadata.labels.get(_MANAGED_BY) in _KUBERNETES_MANAGERS:
            continue
        if _matches(wanted, item.metadata.labels):
            found.extend(slice_endpoints(item, slice_ports(item) or target_ports))
    return merge_by_address(found)


def slice_ports(item: EndpointSlice) -> tuple[int, ...]:
    """Return the TCP ports that a slice lists, in order and once each."""
    ports = (port.port for port in item.ports if port.protocol == "TCP" and port.port is not None)
    return tuple(dict.fromkeys(ports))


def slice_endpoints(item: EndpointSlice, ports: Sequence[int]) -> list[ResolvedEndpoint]:
    """Return the ready endpoints of a slice on *ports*; none if its addresses are names."""
    if item.address_type == "FQDN":
        return []
    endpoints: list[ResolvedEndpoint] = []
    for index, endpoint in enumerate(item.endpoints):
        if endpoint.conditions.ready is False or endpoint.conditions.terminating:
            continue
        name = _slice_endpoint_name(item, index, endpoint)
        endpoints.extend(
            ResolvedEndpoint(
                name=f"{name}-rank-{rank}" if len(ports) > 1 else name,
                namespace=item.metadata.namespace,
                ip=str(ipaddress.ip_address(endpoint.addresses[0])),
                port=port,
                hostname=endpoint.hostname or "",
                labels=item.metadata.labels,
            )
            for rank, port in enumerate(ports)
        )
    return endpoints


def _slice_endpoint_name(item: EndpointSlice, index: int, endpoint: SliceEndpoint) -> str:
    ref = endpoint.target_ref
    if ref is not None and ref.kind == "Pod" and ref.name:
        return ref.name
    return item.metadata.name if len(item.endpoints) == 1 else f"{item.metadata.name}-{index}"


def pod_is_ready(pod: Pod) -> bool:
    """Tell whether *pod* has an address, is not being deleted and is ready; without conditions, Running will do."""
    if pod.metadata.deletion_timestamp is not None or not _is_address(pod.status.pod_ip):
        return False
    if pod.status.conditions:
        return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)
    return pod.status.phase in {"", "Running"}


def pod_endpoint(pod: Pod, port: int, rank: int | None = None) -> ResolvedEndpoint:
    """Return the endpoint of a ready *pod* on *port*; *rank* is its place among several target ports."""
    name = pod.metadata.name
    return ResolvedEndpoint(
        name=name if rank is None else f"{name}-rank-{rank}",
        namespace=pod.metadata.namespace,
        ip=str(ipaddress.ip_address(pod.status.pod_ip)),
        port=port,
        labels=pod.metadata.labels,
    )


def merge_by_address(endpoints: Iterable[ResolvedEndpoint]) -> tuple[ResolvedEndpoint, ...]:
    """Return one endpoint per (ip, port), sorted by address.

    Of several, the first gives the name and its labels win; a host name and further labels come from the others.
    """
    merged: dict[tuple[str, int], ResolvedEndpoint] = {}
    for endpoint in endpoints:
        key = (endpoint.ip, endpoint.port)
        first = merged.get(key)
        merged[key] = endpoint if first is None else _joined(first, endpoint)
    return tuple(merged[key] for key in sorted(merged))


def _joined(first: ResolvedEndpoint, other: ResolvedEndpoint) -> ResolvedEndpoint:
    return ResolvedEndpoint(
        name=first.name,
        namespace=first.namespace,
        ip=first.ip,
        port=first.port,
        hostname=first.hostname or other.hostname,
        labels={**other.labels, **first.labels},
    )


def _matches(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value


def _active_ports(pod: Pod, target_ports: Sequence[int]) -> frozenset[int]:
    """Return the target ports that the pod's annotation leaves; entries that are no number count for nothing."""
    for annotation in ACTIVE_PORTS_ANNOTATIONS:
        if annotation in pod.metadata.annotations:
            words = (word.strip() for word in pod.metadata.annotations[annotation].split(","))
            active = {int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 5}
            return frozenset(active.intersection(target_ports))
    return frozenset(target_ports)
