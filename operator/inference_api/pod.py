"""Pod: a model server in a cluster; the part that makes it an endpoint."""

from typing import Literal

from pydantic import Field

from inference_api.metadata import OpenObject
from inference_api.schema import OpenModel, PortNumber


class ContainerPort(OpenModel):
    """A port that a container declares."""

    name: str = ""
    container_port: PortNumber
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class Container(OpenModel):
    """A container's ports."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(OpenModel):
    """Containers of a pod."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodCondition(OpenModel):
    """One condition of a pod."""

    type: str
    status: str


class PodStatus(OpenModel):
    """Where a pod is reached and whether it is ready."""

    phase: str = ""
    pod_ip: str = Field(default="", alias="podIP")
    conditions: tuple[PodCondition, ...] = ()


class Pod(OpenObject):
    """A pod of the core group."""

    api_version: Literal["v1"]
    kind: Literal["Pod"]
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
