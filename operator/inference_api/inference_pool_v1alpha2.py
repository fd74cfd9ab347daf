"""InferencePool v1alpha2, the legacy form, and its conversion to v1."""

from typing import Annotated, Final, Literal

from pydantic import Field

from inference_api.inference_pool import (
    EndpointPickerRef,
    FailureModeName,
    InferencePool,
    InferencePoolSpec,
    LabelSelector,
    PickerPort,
    TargetPort,
)
from inference_api.metadata import StrictObject
from inference_api.schema import Group, Kind, Labels, ObjectName, PortNumber, StrictModel

DEFAULT_PICKER_PORT: Final = 9002


class ExtensionRef(StrictModel):
    """Reference to the endpoint picker; `port_number` unset means 9002."""

    group: Group = ""
    kind: Kind = "Service"
    name: ObjectName
    port_number: PortNumber | None = None
    failure_mode: FailureModeName = "FailClose"


class InferencePoolV1Alpha2Spec(StrictModel):
    """One target port, a plain label map, and a required picker."""

    selector: Annotated[Labels, Field(min_length=1)]
    target_port_number: PortNumber
    extension_ref: ExtensionRef


class InferencePoolV1Alpha2(StrictObject):
    """A pool of model servers, ``inference.networking.x-k8s.io/v1alpha2``."""

    api_version: Literal["inference.networking.x-k8s.io/v1alpha2"]
    kind: Literal["InferencePool"]
    spec: InferencePoolV1Alpha2Spec

    def to_v1(self) -> InferencePool:
        """Return the same pool as v1, without status: that is for controllers to write anew."""
        ref = self.spec.extension_ref
        return InferencePool(
            api_version="inference.networking.k8s.io/v1",
            kind="InferencePool",
            metadata=self.metadata,
            spec=InferencePoolSpec(
                selector=LabelSelector(match_labels=self.spec.selector),
                target_ports=(TargetPort(number=self.spec.target_port_number),),
                endpoint_picker_ref=EndpointPickerRef(
                    group=ref.group,
                    kind=ref.kind,
                    name=ref.name,
                    port=PickerPort(number=ref.port_number or DEFAULT_PICKER_PORT),
                    failure_mode=ref.failure_mode,
                ),
            ),
        )
