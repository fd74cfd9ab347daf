"""Pick any endpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.scheduling.interfaces import RandomSource
from endpoint_picker.scheduling.pickers.parameters import DEFAULT_PICKER_PARAMETERS, PickerParameters


@dataclass(frozen=True, slots=True)
class RandomPicker:
    """Order uniformly at random; goodness plays no part.

    Attributes:
        random: Where the order is drawn from.
        parameters: Length of the list.

    Source: ``random-picker`` of the Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "random-picker"

    random: RandomSource
    parameters: PickerParameters = DEFAULT_PICKER_PARAMETERS

    def pick(self, endpoints: Sequence[Endpoint], goodness: Sequence[float]) -> list[Endpoint]:  # noqa: ARG002 - all are as likely
        """Return a random sample in random order."""
        draw = self.random.random
        shuffled = sorted([(draw(), place) for place in range(len(endpoints))])
        return [endpoints[place] for _, place in shuffled[: self.parameters.max_num_of_endpoints]]
