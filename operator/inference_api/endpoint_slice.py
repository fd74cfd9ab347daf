"""EndpointSlice: addresses that stand for pods, above all where there are no pods (a standalone installation)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from inference_api.metadata import OpenObject
from inference_api.schema import Boolean, ObjectName, OpenModel, PortNumber, Subdomain, is_ip_address


class EndpointConditions(OpenModel):
    """State of an endpoint; None is unknown and counts as ready, as in Kubernetes."""

    ready: Boolean | None = None
    serving: Boolean | None = None
    terminating: Boolean | None = None


class EndpointTargetRef(OpenModel):
    """The object behind an endpoint."""

    kind: str = ""
    name: ObjectName | None = None
    namespace: str = ""


class SliceEndpoint(OpenModel):
    """One endpoint; only the first address counts.

    `hostname` may have several labels here, so that it can name a model server outside the cluster.
    """

    addresses: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]
    conditions: EndpointConditions = EndpointConditions()
    hostname: Subdomain | None = None
    target_ref: EndpointTargetRef | None = None


class EndpointPort(OpenModel):
    """A port of every endpoint of the slice."""

    name: str = ""
    port: PortNumber | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str | None = None


class EndpointSlice(OpenObject):
    """A slice, ``discovery.k8s.io/v1``; unlike in a cluster, loopback addresses are allowed."""

    api_version: Literal["discovery.k8s.io/v1"]
    kind: Literal["EndpointSlice"]
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: Annotated[tuple[SliceEndpoint, ...], Field(max_length=1000)] = ()
    ports: Annotated[tuple[EndpointPort, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _addresses_fit_type(self) -> Self:
        if self.address_type == "FQDN":
            return self
        for index, endpoint in enumerate(self.endpoints):
            for address in endpoint.addresses:
                if not is_ip_address(address) or (":" in address) != (self.address_type == "IPv6"):
                    msg = f"endpoints[{index}].addresses: {address!r} is not an {self.address_type} address"
                    raise ValueError(msg)
        return self
