"""Keep the endpoints whose pod labels match a selector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, assert_never

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.request import InferenceRequest


class LabelOperator(StrEnum):
    """How a label requirement compares, as in a Kubernetes label selector."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One expression of a label selector.

    Attributes:
        key: Label name.
        operator: How the label is compared.
        values: At least one for In and NotIn, none for Exists and DoesNotExist; else ValueError.
    """

    key: str
    operator: LabelOperator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.key:
            msg = "key must not be empty"
            raise ValueError(msg)
        compares_values = self.operator in {LabelOperator.IN, LabelOperator.NOT_IN}
        if compares_values and not self.values:
            msg = f"operator {self.operator} needs values"
            raise ValueError(msg)
        if not compares_values and self.values:
            msg = f"operator {self.operator} takes no values"
            raise ValueError(msg)

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether *labels* fulfil the requirement; NotIn holds where the label is missing."""
        match self.operator:
            case LabelOperator.IN:
                return labels.get(self.key) in self.values
            case LabelOperator.NOT_IN:
                return labels.get(self.key) not in self.values
            case LabelOperator.EXISTS:
                return self.key in labels
            case LabelOperator.DOES_NOT_EXIST:
                return self.key not in labels
            case _:
                assert_never(self.operator)


@dataclass(frozen=True, slots=True)
class LabelSelectorFilter:
    """Keep endpoints that fulfil every part; a selector without parts keeps all.

    Attributes:
        match_labels: Labels that must be present with exactly these values.
        match_expressions: Further requirements.

    Source: ``label-selector-filter`` of the Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "label-selector-filter"

    match_labels: Mapping[str, str] = field(default_factory=dict)
    match_expressions: tuple[LabelRequirement, ...] = ()

    def filter(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[Endpoint]:  # noqa: ARG002 - a selector does not look at the request
        """Return the endpoints whose labels match, in their order."""
        return [endpoint for endpoint in endpoints if self._matches(endpoint.labels)]

    def _matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.holds(labels) for requirement in self.match_expressions
        )
