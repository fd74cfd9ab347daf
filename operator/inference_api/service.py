"""Service: ports of a set of pods; the part that routes look at."""

from typing import Literal

from pydantic import Field

from inference_api.metadata import OpenObject
from inference_api.schema import OpenModel, PortNumber


class ServicePort(OpenModel):
    """One port; `target_port` is a number, a container port's name, or None for the port itself."""

    name: str = ""
    port: PortNumber
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    target_port: PortNumber | str | None = None
    app_protocol: str | None = None


class ServiceSpec(OpenModel):
    """What the Service selects and how it is reached."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    selector: dict[str, str] = Field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()


class Service(OpenObject):
    """A Service of the core group."""

    api_version: Literal["v1"]
    kind: Literal["Service"]
    spec: ServiceSpec = ServiceSpec()
