"""ReferenceGrant: who of another namespace may refer to objects of this one."""

from typing import Annotated, Literal

from pydantic import Field

from inference_api.metadata import OpenObject
from inference_api.schema import Group, Kind, ObjectName, OpenModel, Subdomain


class ReferenceGrantFrom(OpenModel):
    """Kind and namespace of the objects that may refer."""

    group: Group
    kind: Kind
    namespace: Subdomain


class ReferenceGrantTo(OpenModel):
    """Kind that may be referred to; no name: all of them."""

    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(OpenModel):
    """Every *from* may refer to every *to*."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], Field(alias="from", min_length=1, max_length=16)]
    to: Annotated[tuple[ReferenceGrantTo, ...], Field(min_length=1, max_length=16)]


class ReferenceGrant(OpenObject):
    """A grant, ``gateway.networking.k8s.io/v1beta1`` or ``v1``."""

    api_version: Literal["gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1"]
    kind: Literal["ReferenceGrant"]
    spec: ReferenceGrantSpec
