"""Services as ordinary backends: which endpoints one port of a Service has."""

from collections.abc import Iterable, Sequence
from typing import Final

from inference_api.endpoint_slice import EndpointSlice
from inference_api.pod import Pod
from inference_api.service import Service, ServicePort
from inference_resolution.endpoints import merge_by_address, pod_endpoint, pod_is_ready, slice_endpoints
from inference_resolution.resolved import AppProtocol, ResolvedEndpoint, ResolvedService, ServiceKey

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
_H2C: Final = frozenset({"kubernetes.io/h2c", "grpc"})
_ENCRYPTED: Final = frozenset({"https", "kubernetes.io/wss"})


def service_problem(service: Service, port: int) -> tuple[str, str] | None:
    """Return reason and message if a route cannot use *port* of *service*, None if it can."""
    name = service.metadata.name
    if service.spec.type == "ExternalName":
        return "InvalidKind", f"Service {name} is of type ExternalName, which is not supported as a backend."
    found = next((item for item in service.spec.ports if item.port == port), None)
    if found is None:
        return "BackendNotFound", f"Service {name} has no port {port}."
    if found.protocol != "TCP":
        return "UnsupportedProtocol", f"Port {port} of Service {name} is {found.protocol}, not TCP."
    if (found.app_protocol or "") in _ENCRYPTED:
        return "UnsupportedProtocol", f"appProtocol {found.app_protocol} of Service {name} is not supported."
    return None


def resolve_service(
    key: ServiceKey, service: Service, slices: Iterable[EndpointSlice], pods: Iterable[Pod]
) -> ResolvedService:
    """Return the ready endpoints of one port; from EndpointSlices where there are any, else from the selector."""
    port = next(item for item in service.spec.ports if item.port == key.port)
    own = [item for item in slices if item.metadata.labels.get(SERVICE_NAME_LABEL) == key.name]
    endpoints: list[ResolvedEndpoint] = []
    for item in own:
        endpoints.extend(slice_endpoints(item, _ports_in_slice(item, port, service.spec.ports)))
    if not own and service.spec.selector:
        for pod in pods:
            labels = pod.metadata.labels
            if all(labels.get(name) == value for name, value in service.spec.selector.items()) and pod_is_ready(pod):
                number = _port_of_pod(pod, port)
                endpoints.extend([pod_endpoint(pod, number)] if number else [])
    protocol = AppProtocol.H2C if port.app_protocol in _H2C else AppProtocol.HTTP
    return ResolvedService(key, merge_by_address(endpoints), protocol)


def _ports_in_slice(item: EndpointSlice, port: ServicePort, all_ports: Sequence[ServicePort]) -> list[int]:
    """Return the slice's port of the same name; a single unnamed or differently named port will do for a single one."""
    usable = [listed for listed in item.ports if listed.protocol == "TCP" and listed.port is not None]
    named = [listed.port for listed in usable if listed.name == port.name and listed.port is not None]
    if named:
        return named[:1]
    if len(usable) == 1 and len(all_ports) == 1 and usable[0].port is not None:
        return [usable[0].port]
    if not item.ports:
        return [port.target_port if isinstance(port.target_port, int) else port.port]
    return []


def _port_of_pod(pod: Pod, port: ServicePort) -> int:
    """Return the number of the target port on *pod*, 0 if it has no port of that name."""
    if port.target_port is None:
        return port.port
    if isinstance(port.target_port, int):
        return port.target_port
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        for listed in container.ports:
            if listed.name == port.target_port and listed.protocol == port.protocol:
                return listed.container_port
    return 0
