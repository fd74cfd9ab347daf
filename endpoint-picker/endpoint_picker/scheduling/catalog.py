"""Every plugin of this package, by type."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from endpoint_picker.scheduling.costs.prefill_backlog import PrefillBacklogCost
from endpoint_picker.scheduling.filters.label_selector import LabelSelectorFilter
from endpoint_picker.scheduling.filters.subset import SubsetFilter
from endpoint_picker.scheduling.interfaces import (
    Cost,
    Filter,
    InformedCost,
    InformedScorer,
    Picker,
    RandomSource,
    Scorer,
)
from endpoint_picker.scheduling.pickers.max_score import MaxScorePicker
from endpoint_picker.scheduling.pickers.parameters import PickerParameters
from endpoint_picker.scheduling.pickers.power_of_two import PowerOfTwoPicker
from endpoint_picker.scheduling.pickers.random import RandomPicker
from endpoint_picker.scheduling.pickers.weighted_random import WeightedRandomPicker
from endpoint_picker.scheduling.producers.approx_prefix_cache import ApproxPrefixCacheParameters
from endpoint_picker.scheduling.scheduler import SingleProfileHandler
from endpoint_picker.scheduling.scorers.active_request import ActiveRequestScorer
from endpoint_picker.scheduling.scorers.kv_cache_utilization import KvCacheUtilizationScorer
from endpoint_picker.scheduling.scorers.load_aware import LoadAwareScorer
from endpoint_picker.scheduling.scorers.lora_affinity import LoraAffinityScorer
from endpoint_picker.scheduling.scorers.prefill_backlog import PrefillBacklogScorer
from endpoint_picker.scheduling.scorers.prefix_cache import PrefixCacheScorer
from endpoint_picker.scheduling.scorers.queue import QueueScorer
from endpoint_picker.scheduling.scorers.running_requests_size import RunningRequestsSizeScorer
from endpoint_picker.scheduling.scorers.token_load import TokenLoadScorer

Parameters: TypeAlias = (
    Filter
    | Scorer
    | InformedScorer
    | Cost
    | InformedCost
    | PickerParameters
    | ApproxPrefixCacheParameters
    | SingleProfileHandler
)
"""What one entry of a configuration file turns into: a plugin that needs nothing else, or the parameters of one."""

PICKERS: Mapping[str, Callable[[RandomSource, PickerParameters], Picker]] = MappingProxyType(
    {
        MaxScorePicker.plugin_type: MaxScorePicker,
        PowerOfTwoPicker.plugin_type: PowerOfTwoPicker,
        RandomPicker.plugin_type: RandomPicker,
        WeightedRandomPicker.plugin_type: WeightedRandomPicker,
    }
)
"""Every picker; it needs chance besides its parameters."""

PARAMETERS: Mapping[str, type[Parameters]] = MappingProxyType(
    {
        LabelSelectorFilter.plugin_type: LabelSelectorFilter,
        SubsetFilter.plugin_type: SubsetFilter,
        ActiveRequestScorer.plugin_type: ActiveRequestScorer,
        KvCacheUtilizationScorer.plugin_type: KvCacheUtilizationScorer,
        LoadAwareScorer.plugin_type: LoadAwareScorer,
        LoraAffinityScorer.plugin_type: LoraAffinityScorer,
        PrefillBacklogScorer.plugin_type: PrefillBacklogScorer,
        PrefixCacheScorer.plugin_type: PrefixCacheScorer,
        QueueScorer.plugin_type: QueueScorer,
        RunningRequestsSizeScorer.plugin_type: RunningRequestsSizeScorer,
        TokenLoadScorer.plugin_type: TokenLoadScorer,
        PrefillBacklogCost.plugin_type: PrefillBacklogCost,
        MaxScorePicker.plugin_type: PickerParameters,
        PowerOfTwoPicker.plugin_type: PickerParameters,
        RandomPicker.plugin_type: PickerParameters,
        WeightedRandomPicker.plugin_type: PickerParameters,
        ApproxPrefixCacheParameters.plugin_type: ApproxPrefixCacheParameters,
        SingleProfileHandler.plugin_type: SingleProfileHandler,
    }
)
"""Class of the parameters of every plugin."""
