"""Turns settings, chance and memory into a scheduler."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from endpoint_picker.scheduling.filters.subset import SubsetFilter
from endpoint_picker.scheduling.interfaces import Filter, Picker, RandomSource
from endpoint_picker.scheduling.pickers.max_score import MaxScorePicker
from endpoint_picker.scheduling.pickers.parameters import PickerParameters
from endpoint_picker.scheduling.pickers.power_of_two import PowerOfTwoPicker
from endpoint_picker.scheduling.pickers.random import RandomPicker
from endpoint_picker.scheduling.pickers.weighted_random import WeightedRandomPicker
from endpoint_picker.scheduling.producers.approx_prefix_cache import ApproxPrefixCacheProducer
from endpoint_picker.scheduling.producers.prefix_index import PrefixIndex
from endpoint_picker.scheduling.profile import CostProfile, Profile, SchedulingProfile
from endpoint_picker.scheduling.scheduler import Scheduler
from endpoint_picker.scheduling.settings import ProfileSettings, SchedulingSettings

PICKERS: Mapping[str, Callable[[RandomSource, PickerParameters], Picker]] = MappingProxyType(
    {
        MaxScorePicker.plugin_type: MaxScorePicker,
        RandomPicker.plugin_type: RandomPicker,
        WeightedRandomPicker.plugin_type: WeightedRandomPicker,
        PowerOfTwoPicker.plugin_type: PowerOfTwoPicker,
    }
)
"""Every picker, by type."""


def assemble_scheduler(settings: SchedulingSettings, *, random: RandomSource, prefix_index: PrefixIndex) -> Scheduler:
    """Build the scheduler that *settings* describe.

    *prefix_index* is written by the scheduler and stays empty when no plugin asks for the prefix cache; its owner calls
    `PrefixIndex.forget` for endpoints that leave.

    Raises:
        ValueError: The settings contradict themselves (see `Scheduler`).
        KeyError: A picker type that is not in `PICKERS`.
    """
    producers = [ApproxPrefixCacheProducer(prefix_index, settings.prefix_cache)] if settings.prefix_cache else []
    return Scheduler([_profile(profile, random) for profile in settings.profiles], producers)


def _profile(settings: ProfileSettings, random: RandomSource) -> Profile:
    picker = PICKERS[settings.picker.plugin_type](random, settings.picker.parameters)
    filters: tuple[Filter, ...] = settings.filters
    if not any(isinstance(plugin, SubsetFilter) for plugin in filters):
        filters = (SubsetFilter(), *filters)
    if settings.costs:
        return CostProfile(settings.name, filters=filters, costs=settings.costs, picker=picker)
    return SchedulingProfile(settings.name, filters=filters, scorers=settings.scorers, picker=picker)
