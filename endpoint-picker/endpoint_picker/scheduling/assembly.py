"""Turns settings, chance and memory into a scheduler."""

from endpoint_picker.scheduling.catalog import PICKERS
from endpoint_picker.scheduling.filters.subset import SubsetFilter
from endpoint_picker.scheduling.interfaces import Filter, RandomSource
from endpoint_picker.scheduling.producers.approx_prefix_cache import ApproxPrefixCacheProducer
from endpoint_picker.scheduling.producers.prefix_index import PrefixIndex
from endpoint_picker.scheduling.profile import CostProfile, Profile, SchedulingProfile
from endpoint_picker.scheduling.scheduler import Scheduler
from endpoint_picker.scheduling.settings import ProfileSettings, SchedulingSettings


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
