"""What routes attach to: the Gateways of a resolution with their listeners."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from inference_api.gateway import Gateway, NamespaceSelector, SelectorRequirement
from inference_resolution.resolved import ObjectKey


@dataclass(frozen=True, slots=True)
class ListenerTarget:
    """One listener.

    Attributes:
        name: Unique within the Gateway.
        port: TCP port.
        hostname: Exact or ``*.`` wildcard, empty for any.
        protocol: Only HTTP and HTTPS take HTTPRoutes.
        namespaces: Where routes may come from; Same is the Gateway's own namespace.
        selector: Which namespaces, with Selector.
        kinds: (group, kind) of the routes it takes; empty: those of its protocol.
    """

    name: str
    port: int
    hostname: str = ""
    protocol: str = "HTTP"
    namespaces: Literal["All", "Selector", "Same", "None"] = "Same"
    selector: NamespaceSelector | None = None
    kinds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayTarget:
    """One Gateway, real or implicit."""

    key: ObjectKey
    listeners: tuple[ListenerTarget, ...]


def gateway_target(gateway: Gateway) -> GatewayTarget:
    """Return *gateway* as a target of attachment."""
    return GatewayTarget(
        ObjectKey(gateway.group, gateway.kind, gateway.metadata.namespace, gateway.metadata.name),
        tuple(
            ListenerTarget(
                name=listener.name,
                port=listener.port,
                hostname=listener.hostname or "",
                protocol=listener.protocol,
                namespaces=listener.allowed_routes.namespaces.from_,
                selector=listener.allowed_routes.namespaces.selector,
                kinds=tuple((kind.group, kind.kind) for kind in listener.allowed_routes.kinds),
            )
            for listener in gateway.spec.listeners
        ),
    )


def selects(selector: NamespaceSelector, labels: Mapping[str, str]) -> bool:
    """Tell whether *labels* satisfy every part of *selector*; an empty selector selects all."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _satisfied(requirement, labels) for requirement in selector.match_expressions
    )


def _satisfied(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
