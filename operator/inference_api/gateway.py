"""Gateway: listeners that routes attach to; the parts that attachment looks at."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from inference_api.metadata import OpenObject
from inference_api.schema import Hostname, Kind, ObjectName, OpenModel, PortNumber, Subdomain, first_repeated


class SelectorRequirement(OpenModel):
    """One expression over labels."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class NamespaceSelector(OpenModel):
    """Selects namespaces by their labels; empty selects all."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: tuple[SelectorRequirement, ...] = ()


class RouteNamespaces(OpenModel):
    """Namespaces that routes may come from."""

    from_: Literal["All", "Selector", "Same", "None"] = Field(default="Same", alias="from")
    selector: NamespaceSelector | None = None


class RouteGroupKind(OpenModel):
    """A kind of route."""

    group: str = "gateway.networking.k8s.io"
    kind: Kind


class AllowedRoutes(OpenModel):
    """Routes a listener takes; no kinds: those of its protocol."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[RouteGroupKind, ...] = ()


class SecretObjectReference(OpenModel):
    """A Secret with a certificate."""

    group: str = ""
    kind: str = "Secret"
    name: ObjectName
    namespace: Subdomain | None = None


class ListenerTls(OpenModel):
    """How a listener ends TLS."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: tuple[SecretObjectReference, ...] = ()


class Listener(OpenModel):
    """A port, protocol and hostname that routes attach to."""

    name: Subdomain
    hostname: Hostname | None = None
    port: PortNumber
    protocol: Annotated[str, Field(min_length=1, max_length=255)]
    tls: ListenerTls | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewaySpec(OpenModel):
    """Class and listeners."""

    gateway_class_name: ObjectName
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1, max_length=64)]

    @field_validator("listeners")
    @classmethod
    def _listeners_differ(cls, listeners: tuple[Listener, ...]) -> tuple[Listener, ...]:
        if first_repeated(listener.name for listener in listeners) is not None:
            msg = "Listener name must be unique within the Gateway"
            raise ValueError(msg)
        if first_repeated((item.port, item.protocol, item.hostname) for item in listeners) is not None:
            msg = "Combination of port, protocol and hostname must be unique for each listener"
            raise ValueError(msg)
        return listeners

    @model_validator(mode="after")
    def _tls_fits_protocol(self) -> Self:
        for listener in self.listeners:
            if listener.protocol in {"HTTP", "TCP", "UDP"} and listener.tls is not None:
                msg = "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"
                raise ValueError(msg)
        return self


class Gateway(OpenObject):
    """A Gateway, ``gateway.networking.k8s.io/v1`` or ``v1beta1``."""

    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
    kind: Literal["Gateway"]
    spec: GatewaySpec
