"""Attachment: which listeners of which Gateways a route or model is served on, and why not on the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from inference_api.names import GATEWAY_GROUP
from inference_api.parent_reference import ParentReference
from inference_resolution.hostnames import intersect
from inference_resolution.resolved import ObjectKey
from inference_resolution.targets import GatewayTarget, ListenerTarget, selects


class ListenerId(NamedTuple):
    """Names one listener of one Gateway."""

    gateway: ObjectKey
    listener: str


@dataclass(frozen=True, slots=True)
class ParentOutcome:
    """What became of one parentRef to a Gateway of ours.

    Attributes:
        gateway: The Gateway.
        hosts: Host patterns by listener; empty: not attached.
        reason: ``Accepted``, or why not.
        message: One sentence.
        section_name: As the parentRef has it.
        port: As the parentRef has it.
    """

    gateway: ObjectKey
    hosts: Mapping[ListenerId, tuple[str, ...]]
    reason: str
    message: str
    section_name: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Attacher:
    """Attaches routes and models to the Gateways of a resolution.

    Attributes:
        gateways: The Gateways asked for.
        attach_all: Everything attaches to every listener whatever its parentRefs say.
        namespace_labels: Labels by namespace, for listeners that select namespaces.
        default_gateway: Gateway of models without parentRefs; None: there is none.
    """

    gateways: Sequence[GatewayTarget]
    attach_all: bool
    namespace_labels: Mapping[str, Mapping[str, str]]
    default_gateway: ObjectKey | None = None

    def attach(self, namespace: str, refs: Sequence[ParentReference], hostnames: Sequence[str]) -> list[ParentOutcome]:
        """Return one outcome per parentRef that names a Gateway of ours, or per Gateway with `attach_all`."""
        if self.attach_all:
            return [self._try(gateway, gateway.listeners, "", hostnames) for gateway in self.gateways]
        outcomes: list[ParentOutcome] = []
        for ref in refs:
            key = ObjectKey(ref.group, ref.kind, ref.namespace or namespace, ref.name)
            outcomes.extend(
                self._by_ref(gateway, ref, namespace, hostnames) for gateway in self.gateways if gateway.key == key
            )
        return outcomes

    def attach_model(
        self, namespace: str, refs: Sequence[ParentReference], hostnames: Sequence[str]
    ) -> list[ParentOutcome]:
        """Attach an InferenceModel: like a route, but without parentRefs it goes to the default Gateway."""
        if not refs and self.default_gateway is not None:
            key = self.default_gateway
            refs = [ParentReference(group=key.group, kind=key.kind, namespace=key.namespace, name=key.name)]
        return self.attach(namespace, refs, hostnames)

    def _by_ref(
        self, gateway: GatewayTarget, ref: ParentReference, namespace: str, hostnames: Sequence[str]
    ) -> ParentOutcome:
        named = [
            listener
            for listener in gateway.listeners
            if ref.section_name in {None, listener.name} and ref.port in {None, listener.port}
        ]
        section, port = ref.section_name or "", ref.port or 0
        if not named:
            message = "The Gateway has no listener with the sectionName and port of the parentRef."
            return ParentOutcome(gateway.key, {}, "NoMatchingParent", message, section, port)
        allowed = [listener for listener in named if self._allows(listener, gateway.key.namespace, namespace)]
        if not allowed:
            message = f"No listener takes HTTP routes from namespace {namespace}."
            return ParentOutcome(gateway.key, {}, "NotAllowedByListeners", message, section, port)
        return self._try(gateway, allowed, section, hostnames, port=port)

    def _try(
        self,
        gateway: GatewayTarget,
        listeners: Sequence[ListenerTarget],
        section: str,
        hostnames: Sequence[str],
        *,
        port: int = 0,
    ) -> ParentOutcome:
        hosts = {
            ListenerId(gateway.key, listener.name): met
            for listener in listeners
            if (met := intersect(listener.hostname, hostnames))
        }
        if not hosts:
            message = "No hostname of the route meets the hostname of a listener."
            return ParentOutcome(gateway.key, {}, "NoMatchingListenerHostname", message, section, port)
        return ParentOutcome(gateway.key, hosts, "Accepted", "Attached to the Gateway.", section, port)

    def _allows(self, listener: ListenerTarget, own_namespace: str, namespace: str) -> bool:
        if listener.protocol not in {"HTTP", "HTTPS"}:
            return False
        if listener.kinds and (GATEWAY_GROUP, "HTTPRoute") not in listener.kinds:
            return False
        match listener.namespaces:
            case "All":
                return True
            case "Same":
                return namespace == own_namespace
            case "None":
                return False
            case "Selector":
                labels = self.namespace_labels.get(namespace)
                return labels is not None and listener.selector is not None and selects(listener.selector, labels)
