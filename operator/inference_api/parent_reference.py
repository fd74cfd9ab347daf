"""ParentReference: the Gateway, or the listener of one, that a route or model attaches to."""

from inference_api.names import GATEWAY_GROUP
from inference_api.schema import Group, Kind, ObjectName, OpenModel, PortNumber, Subdomain


class ParentReference(OpenModel):
    """One parent; `namespace` unset means the namespace of the object that refers."""

    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: Subdomain | None = None
    name: ObjectName
    section_name: Subdomain | None = None
    port: PortNumber | None = None


def parent_reference_problem(references: tuple[ParentReference, ...], namespace: str) -> str:
    """Return what forbids *references* side by side, empty if nothing: one parent twice needs distinct sections."""
    sections: dict[tuple[str, str, str, str], list[tuple[str | None, int | None]]] = {}
    for ref in references:
        parent = (ref.group, ref.kind, ref.namespace or namespace, ref.name)
        sections.setdefault(parent, []).append((ref.section_name, ref.port))
    for taken in sections.values():
        if len(taken) > 1 and any(section is None and port is None for section, port in taken):
            return "sectionName must be specified when parentRefs includes 2 or more references to the same parent"
        if len(set(taken)) < len(taken):
            return "sectionName must be unique when parentRefs includes 2 or more references to the same parent"
    return ""
