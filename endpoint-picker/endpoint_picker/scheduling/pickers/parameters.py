"""What every picker can be told."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PickerParameters:
    """Parameters of a picker.

    Attributes:
        max_num_of_endpoints: Length of the ordered list, 1 or more, else ValueError. The first is dialled, the rest is
            where retries go; 1 for data planes that accept a single destination.
    """

    max_num_of_endpoints: int = 3

    def __post_init__(self) -> None:
        if self.max_num_of_endpoints < 1:
            msg = f"max_num_of_endpoints must be at least 1, got {self.max_num_of_endpoints}"
            raise ValueError(msg)


DEFAULT_PICKER_PARAMETERS = PickerParameters()
