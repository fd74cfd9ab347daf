"""Scheduler: one profile per request, the pick is remembered; the default settings hold their promise."""

from random import Random

import pytest

from endpoint_picker.domain.endpoint import Endpoint
from endpoint_picker.domain.errors import NoReadyEndpoints
from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.assembly import assemble_scheduler
from endpoint_picker.scheduling.catalog import PARAMETERS, PICKERS
from endpoint_picker.scheduling.costs.prefill_backlog import PrefillBacklogCost
from endpoint_picker.scheduling.filters.label_selector import LabelSelectorFilter
from endpoint_picker.scheduling.filters.subset import SubsetFilter
from endpoint_picker.scheduling.pickers.parameters import PickerParameters
from endpoint_picker.scheduling.producers.prefix_index import PrefixIndex
from endpoint_picker.scheduling.profile import NamedCost, WeightedScorer
from endpoint_picker.scheduling.scheduler import Scheduler
from endpoint_picker.scheduling.scorers.queue import QueueScorer
from endpoint_picker.scheduling.settings import DEFAULT_SETTINGS, PickerSettings, ProfileSettings, SchedulingSettings
from unit.endpoint_picker.scheduling.building import endpoint, endpoints

PROMPT = b"x" * 640
REQUEST = InferenceRequest(model="base", target_model="base", prompt=PROMPT, prompt_tokens=160)


def scheduler(*profiles: ProfileSettings) -> Scheduler:
    settings = SchedulingSettings(profiles) if profiles else DEFAULT_SETTINGS
    return assemble_scheduler(settings, random=Random(1), prefix_index=PrefixIndex())


def labelled(name: str) -> ProfileSettings:
    """Return a profile that takes the endpoint of its name only."""
    return ProfileSettings(name, filters=(LabelSelectorFilter({"for": name}),))


def warm(address: str, pool: list[Endpoint]) -> Scheduler:
    """Return the default scheduler after REQUEST's prompt went to *address*."""
    default = scheduler()
    default.picked(REQUEST, next(e for e in pool if e.address == address))
    return default


LABELLED = [endpoint(f"{name}:1", labels={"for": name}) for name in ("default", "batch", "only")]


@pytest.mark.parametrize(
    ("profiles", "asked", "served"),
    [
        pytest.param(["only"], "", "only", id="the-single-one"),
        pytest.param(["only"], "batch", "only", id="the-single-one-for-any-name"),
        pytest.param(["batch", "default"], "", "default", id="default-of-several"),
        pytest.param(["batch", "default"], "batch", "batch", id="named"),
        pytest.param(["batch", "default"], "mistyped", "default", id="unknown-name"),
    ],
)
def test_one_profile_decides(profiles: list[str], asked: str, served: str) -> None:
    decision = scheduler(*map(labelled, profiles)).schedule(REQUEST, LABELLED, asked)
    assert (decision.profile, decision.addresses) == (served, (f"{served}:1",))


def test_profiles_can_be_listed() -> None:
    assert scheduler(labelled("batch"), labelled("default")).profile_names == ("batch", "default")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param([], "one scheduling profile", id="none"),
        pytest.param(["a", "b"], "'default'", id="several-without-default"),
        pytest.param(["default", "default"], "same name", id="same-name"),
    ],
)
def test_profiles_that_leave_no_answer_are_refused(names: list[str], message: str) -> None:
    settings = SchedulingSettings(tuple(map(labelled, names)))
    with pytest.raises(ValueError, match=message):
        assemble_scheduler(settings, random=Random(1), prefix_index=PrefixIndex())


def test_pick_is_remembered_and_sticks() -> None:
    pool = endpoints(8)
    default = scheduler()
    first = default.schedule(REQUEST, pool).addresses[0]
    assert {default.schedule(REQUEST, pool).addresses[0] for _ in range(20)} == {first}


def test_served_endpoint_is_remembered_too() -> None:
    pool = endpoints(8)
    assert warm("10.0.0.5:8000", pool).schedule(REQUEST, pool).addresses[0] == "10.0.0.5:8000"


def test_nothing_is_remembered_where_nothing_was_picked() -> None:
    index = PrefixIndex()
    default = assemble_scheduler(DEFAULT_SETTINGS, random=Random(1), prefix_index=index)
    with pytest.raises(NoReadyEndpoints):
        default.schedule(REQUEST, [])
    assert len(index) == 0


@pytest.mark.parametrize(
    "filters",
    [pytest.param((), id="not-listed"), pytest.param((SubsetFilter(),), id="listed")],
)
def test_subset_is_always_honoured(filters: tuple[SubsetFilter, ...]) -> None:
    restricted = InferenceRequest(subset=frozenset({"10.0.0.2"}))
    assert scheduler(ProfileSettings(filters=filters)).schedule(restricted, endpoints(4)).candidates == (
        "10.0.0.2:8000",
    )


def test_cost_profile_takes_the_least_seconds() -> None:
    profile = ProfileSettings(costs=(NamedCost("prefill-backlog-cost", PrefillBacklogCost()),))
    pool = [endpoint("a:1", prompt_tokens=9000), endpoint("b:1"), endpoint("c:1", prompt_tokens=100)]
    assert scheduler(profile).schedule(REQUEST, pool).addresses == ("b:1", "c:1", "a:1")


def test_scores_and_seconds_do_not_mix() -> None:
    with pytest.raises(ValueError, match="both scorers and costs"):
        ProfileSettings(
            scorers=(WeightedScorer("queue-scorer", QueueScorer()),),
            costs=(NamedCost("prefill-backlog-cost", PrefillBacklogCost()),),
        )


def test_list_is_as_long_as_configured() -> None:
    profile = ProfileSettings(picker=PickerSettings(parameters=PickerParameters(max_num_of_endpoints=2)))
    assert len(scheduler(profile).schedule(REQUEST, endpoints(5)).addresses) == 2
    assert len(scheduler().schedule(REQUEST, endpoints(5)).addresses) == 3


@pytest.mark.parametrize(
    ("sticky", "others", "stays"),
    [
        pytest.param({"waiting_queue_size": 0}, {"waiting_queue_size": 0}, True, id="idle"),
        pytest.param({"requests": 2}, {"requests": 0}, True, id="hardly-busy"),
        pytest.param({"requests": 8}, {"requests": 4}, True, id="more-of-our-requests-alone"),
        pytest.param(
            {"requests": 4, "in_flight_when_read": 0}, {"requests": 3, "in_flight_when_read": 0}, True, id="fresh-picks"
        ),
        pytest.param({"requests": 2, "prefill_backlog_tokens": 9000.0}, {}, True, id="prefill-backlog-alone"),
        pytest.param(
            {"requests": 3, "prefill_backlog_tokens": 600.0}, {"requests": 0}, False, id="backlog-and-requests"
        ),
        pytest.param({"waiting_queue_size": 20}, {"waiting_queue_size": 0}, True, id="longer-queue-of-others-alone"),
        pytest.param(
            {"waiting_queue_size": 5, "requests": 5}, {"waiting_queue_size": 0}, False, id="queue-and-requests"
        ),
        pytest.param(
            {"kv_cache_utilization": 0.95, "requests": 5}, {"kv_cache_utilization": 0.1}, False, id="cache-and-requests"
        ),
    ],
)
def test_load_beats_stickiness_under_pressure_only(
    sticky: dict[str, float], others: dict[str, float], stays: bool
) -> None:
    reading = {"waiting_queue_size": 0, "kv_cache_utilization": 0.1, "model": "base"}
    pool = [endpoint("warm:1", **{**reading, **sticky}), endpoint("cold:1", **{**reading, **others})]
    assert (warm("warm:1", pool).schedule(REQUEST, pool).addresses[0] == "warm:1") == stays


def test_new_prompts_go_to_the_least_busy() -> None:
    pool = [endpoint(f"{n}:1", requests=n, waiting_queue_size=0, kv_cache_utilization=0.2) for n in (7, 3, 5)]
    assert scheduler().schedule(REQUEST, pool).addresses == ("3:1", "5:1", "7:1")


def test_new_prompts_avoid_endpoints_that_compute_others() -> None:
    pool = [endpoint(f"{n}:1", requests=9, prefill_backlog_tokens=n * 1000.0) for n in (3, 1, 2)]
    assert scheduler().schedule(REQUEST, pool).addresses == ("1:1", "2:1", "3:1")


def test_unscraped_pool_is_balanced_by_the_ledger() -> None:
    pool = [endpoint(f"{n}:1", requests=n, scraped=False) for n in (5, 0, 4)]
    assert scheduler().schedule(REQUEST, pool).addresses == ("0:1", "4:1", "5:1")


def test_burst_spreads_between_two_readings() -> None:
    load = dict.fromkeys(range(4), 0)
    default = scheduler()
    for number in range(40):
        pool = [
            endpoint(f"{n}:1", requests=load[n], in_flight_when_read=0, waiting_queue_size=0, kv_cache_utilization=0.1)
            for n in load
        ]
        prompt = b"%064d" % number * 10
        chosen = default.schedule(InferenceRequest(target_model="base", prompt=prompt), pool).addresses[0]
        load[int(chosen.partition(":")[0])] += 1
    assert set(load.values()) == {10}


def test_concurrent_requests_of_one_prefix_do_not_pile_up() -> None:
    load = dict.fromkeys(range(2), 0)
    served = dict(load)
    unfinished: list[int] = []
    default = scheduler()
    for _ in range(200):
        if len(unfinished) == 4:
            load[unfinished.pop(0)] -= 1
        pool = [endpoint(f"{n}:1", requests=load[n], waiting_queue_size=0, kv_cache_utilization=0.1) for n in load]
        chosen = int(default.schedule(REQUEST, pool).addresses[0].partition(":")[0])
        unfinished.append(chosen)
        load[chosen] += 1
        served[chosen] += 1
    assert min(served.values()) > 60


def test_every_plugin_stands_under_its_own_type() -> None:
    for plugin_type, cls in PARAMETERS.items():
        assert getattr(cls, "plugin_type", plugin_type) == plugin_type
    assert set(PICKERS) <= set(PARAMETERS)
    for plugin_type, picker in PICKERS.items():
        assert picker(Random(1), PickerParameters()).plugin_type == plugin_type
