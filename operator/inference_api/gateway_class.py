"""GatewayClass: which controller serves the Gateways of a class."""

from typing import Annotated, Literal

from pydantic import Field

from inference_api.metadata import OpenObject
from inference_api.schema import OpenModel


class GatewayClassSpec(OpenModel):
    """The controller's name, ``DOMAIN/PATH``."""

    controller_name: Annotated[
        str,
        Field(
            min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$"
        ),
    ]


class GatewayClass(OpenObject):
    """A class of Gateways; cluster-scoped."""

    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
    kind: Literal["GatewayClass"]
    spec: GatewayClassSpec
