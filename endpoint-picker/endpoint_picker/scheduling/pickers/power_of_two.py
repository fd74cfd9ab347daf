"""Draw two endpoints and pick the better one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.scheduling.interfaces import RandomSource
from endpoint_picker.scheduling.pickers.parameters import DEFAULT_PICKER_PARAMETERS, PickerParameters


@dataclass(frozen=True, slots=True)
class PowerOfTwoPicker:
    """Draw two endpoints at random, the better one first, then all others by goodness; ties at random.

    Pickers that do not know of each other's picks spread over the pool and do not all run to the same best endpoint.

    Attributes:
        random: Where the draws come from.
        parameters: Length of the list.

    Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".
    """

    plugin_type: ClassVar[str] = "power-of-two-picker"

    random: RandomSource
    parameters: PickerParameters = DEFAULT_PICKER_PARAMETERS

    def pick(self, endpoints: Sequence[Endpoint], goodness: Sequence[float]) -> list[Endpoint]:
        """Return the better of two drawn endpoints, the other one, then the rest, best first."""
        draw = self.random.random
        shuffled = [place for _, place in sorted([(draw(), place) for place in range(len(endpoints))])]

        def best_first(places: Sequence[int]) -> list[int]:
            return sorted(places, key=lambda place: -goodness[place])

        order = best_first(shuffled[:2]) + best_first(shuffled[2:])
        return [endpoints[place] for place in order[: self.parameters.max_num_of_endpoints]]
