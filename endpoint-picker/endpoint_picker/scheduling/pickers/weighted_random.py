"""Pick endpoints at random, good ones more often."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.scheduling.interfaces import RandomSource
from endpoint_picker.scheduling.pickers.parameters import DEFAULT_PICKER_PARAMETERS, PickerParameters


@dataclass(frozen=True, slots=True)
class WeightedRandomPicker:
    """Draw without replacement, each endpoint with a chance proportional to its goodness.

    Endpoints whose goodness is not positive come last, in random order; if none is positive the order is uniform.

    Attributes:
        random: Where the draws come from.
        parameters: Length of the list.

    Source: ``weighted-random-picker`` of the Gateway API Inference Extension; Efraimidis and Spirakis, "Weighted
    random sampling with a reservoir" (A-Res): order by ``U ** (1 / weight)``, here by its logarithm.
    """

    plugin_type: ClassVar[str] = "weighted-random-picker"

    random: RandomSource
    parameters: PickerParameters = DEFAULT_PICKER_PARAMETERS

    def pick(self, endpoints: Sequence[Endpoint], goodness: Sequence[float]) -> list[Endpoint]:
        """Return a weighted random sample in the order drawn."""
        draw = self.random.random

        def key(good: float) -> tuple[bool, float]:
            uniform = 1.0 - draw()  # in (0, 1]: its logarithm exists
            return (False, -log(uniform) / good) if good > 0.0 else (True, uniform)

        drawn = sorted([(key(good), place) for place, good in enumerate(goodness)])
        return [endpoints[place] for _, place in drawn[: self.parameters.max_num_of_endpoints]]
