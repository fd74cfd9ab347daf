"""InferencePool v1: model servers that share a model, and the endpoint picker that chooses among them."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from inference_api.metadata import StrictObject
from inference_api.schema import Group, Kind, Labels, ObjectName, PortNumber, StrictModel, first_repeated

FailureModeName = Literal["FailOpen", "FailClose"]
AppProtocolName = Literal["http", "kubernetes.io/h2c"]


class LabelSelector(StrictModel):
    """Labels that a pod of the pool's namespace must all carry."""

    match_labels: Annotated[Labels, Field(min_length=1, max_length=64)]


class TargetPort(StrictModel):
    """A port that the model servers listen on."""

    number: PortNumber


class PickerPort(StrictModel):
    """Port of the picker's Service."""

    number: PortNumber


class EndpointPickerRef(StrictModel):
    """Reference to the endpoint picker of a pool."""

    group: Group = ""
    kind: Kind = "Service"
    name: ObjectName
    port: PickerPort | None = None
    failure_mode: FailureModeName = "FailClose"

    @model_validator(mode="after")
    def _service_has_port(self) -> Self:
        if self.kind == "Service" and self.port is None:
            msg = "port is required when kind is 'Service' or unspecified (defaults to 'Service')"
            raise ValueError(msg)
        return self


class InferencePoolSpec(StrictModel):
    """What belongs to the pool and how it is spoken to; every (pod, port) is one endpoint.

    Attributes:
        selector: Pods of the pool.
        target_ports: One to eight distinct ports.
        app_protocol: One protocol for all ports.
        endpoint_picker_ref: None: our own picker serves the pool.
    """

    selector: LabelSelector
    target_ports: Annotated[tuple[TargetPort, ...], Field(min_length=1, max_length=8)]
    app_protocol: AppProtocolName = "http"
    endpoint_picker_ref: EndpointPickerRef | None = None

    @field_validator("target_ports")
    @classmethod
    def _ports_differ(cls, ports: tuple[TargetPort, ...]) -> tuple[TargetPort, ...]:
        if first_repeated(port.number for port in ports) is not None:
            msg = "port number must be unique"
            raise ValueError(msg)
        return ports


class InferencePool(StrictObject):
    """A pool of model servers, ``inference.networking.k8s.io/v1``."""

    api_version: Literal["inference.networking.k8s.io/v1"]
    kind: Literal["InferencePool"]
    spec: InferencePoolSpec
