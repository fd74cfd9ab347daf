"""What the scheduling of a picker is made of: plugins with their parameters, without memory and chance."""

from dataclasses import dataclass

from endpoint_picker.scheduling.interfaces import Filter
from endpoint_picker.scheduling.pickers.max_score import MaxScorePicker
from endpoint_picker.scheduling.pickers.parameters import DEFAULT_PICKER_PARAMETERS, PickerParameters
from endpoint_picker.scheduling.producers.approx_prefix_cache import ApproxPrefixCacheParameters
from endpoint_picker.scheduling.profile import NamedCost, WeightedScorer
from endpoint_picker.scheduling.scheduler import DEFAULT_PROFILE
from endpoint_picker.scheduling.scorers.active_request import ActiveRequestScorer
from endpoint_picker.scheduling.scorers.kv_cache_utilization import KvCacheUtilizationScorer
from endpoint_picker.scheduling.scorers.lora_affinity import LoraAffinityScorer
from endpoint_picker.scheduling.scorers.prefill_backlog import PrefillBacklogScorer
from endpoint_picker.scheduling.scorers.prefix_cache import PrefixCacheScorer
from endpoint_picker.scheduling.scorers.queue import QueueScorer


@dataclass(frozen=True, slots=True)
class PickerSettings:
    """Which picker, and its parameters."""

    plugin_type: str = MaxScorePicker.plugin_type
    parameters: PickerParameters = DEFAULT_PICKER_PARAMETERS


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """One scheduling profile.

    Attributes:
        name: Unique among the profiles.
        filters: In order; the data plane's subset is honoured whether or not its filter is listed.
        scorers: Empty if there are costs.
        costs: Empty if there are scorers; ValueError if there are both, since scores and seconds do not add up.
        picker: How candidates are ordered.
    """

    name: str = DEFAULT_PROFILE
    filters: tuple[Filter, ...] = ()
    scorers: tuple[WeightedScorer, ...] = ()
    costs: tuple[NamedCost, ...] = ()
    picker: PickerSettings = PickerSettings()

    def __post_init__(self) -> None:
        if self.scorers and self.costs:
            msg = f"profile {self.name} has both scorers and costs"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class SchedulingSettings:
    """Everything a scheduler is built from.

    Attributes:
        profiles: One, or several of which one is called ``default``.
        prefix_cache: Parameters of the approximate prefix cache; None: no plugin asks for it.
    """

    profiles: tuple[ProfileSettings, ...]
    prefix_cache: ApproxPrefixCacheParameters | None = None


DEFAULT_SETTINGS = SchedulingSettings(
    profiles=(
        ProfileSettings(
            scorers=(
                WeightedScorer("queue-scorer", QueueScorer(neutral_spread=4), 2.0),
                WeightedScorer("kv-cache-utilization-scorer", KvCacheUtilizationScorer(), 2.0),
                WeightedScorer("active-request-scorer", ActiveRequestScorer(idle_threshold=2), 3.0),
                WeightedScorer("prefill-backlog-scorer", PrefillBacklogScorer(), 1.0),
                WeightedScorer("prefix-cache-scorer", PrefixCacheScorer(), 3.0),
                WeightedScorer("lora-affinity-scorer", LoraAffinityScorer(), 1.0),
            ),
        ),
    ),
    prefix_cache=ApproxPrefixCacheParameters(),
)
"""Scheduling without a configuration file.

Weights: a full prefix match (3) outweighs a longer queue (2), a fuller cache (2) or prompts being computed (1), so a
conversation stays where its cache is while the pool is merely busy. Requests in flight (3) count by their ratio: a few
more at the endpoint with the match change nothing. All of them there and only idle endpoints beside it level the match,
and then any further sign of load spreads a hot prefix, or chance does. With up to two requests an endpoint is idle.
Queues that differ by fewer than five requests do not count as pressure: the corrected queue counts every fresh
pick as waiting until the next reading, and five waiting is where saturation begins.

Endpoints that are busy alike differ in the prefill backlog (1), which decides where new prompts go: counting requests
alone sends them to whoever has just finished some, often twice in a row, and makes them wait for each other. Its weight
is small on purpose: it counts a prompt whole even if most of it is cached, and with more weight it would tear shared
prefixes apart. An adapter (1) decides between endpoints that are otherwise alike.
"""
