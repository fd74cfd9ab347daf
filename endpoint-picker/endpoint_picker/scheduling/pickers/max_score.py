"""Pick the best endpoints, ties at random."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.scheduling.interfaces import RandomSource
from endpoint_picker.scheduling.pickers.parameters import DEFAULT_PICKER_PARAMETERS, PickerParameters


@dataclass(frozen=True, slots=True)
class MaxScorePicker:
    """Order by goodness, best first; equally good endpoints in random order.

    Attributes:
        random: Where ties are broken from.
        parameters: Length of the list.

    Source: ``max-score-picker`` of the Gateway API Inference Extension.
    """

    plugin_type: ClassVar[str] = "max-score-picker"

    random: RandomSource
    parameters: PickerParameters = DEFAULT_PICKER_PARAMETERS

    def pick(self, endpoints: Sequence[Endpoint], goodness: Sequence[float]) -> list[Endpoint]:
        """Return the best endpoints, best first."""
        draw = self.random.random
        best_first = sorted([(-good, draw(), place) for place, good in enumerate(goodness)])
        return [endpoints[place] for _, _, place in best_first[: self.parameters.max_num_of_endpoints]]
