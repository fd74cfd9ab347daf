"""Pickers: an ordered list of distinct endpoints, never longer than configured, in the order that each promises."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.scheduling.catalog import PICKERS
from endpoint_picker.scheduling.interfaces import Picker
from endpoint_picker.scheduling.pickers.max_score import MaxScorePicker
from endpoint_picker.scheduling.pickers.parameters import PickerParameters
from endpoint_picker.scheduling.pickers.power_of_two import PowerOfTwoPicker
from endpoint_picker.scheduling.pickers.random import RandomPicker
from endpoint_picker.scheduling.pickers.weighted_random import WeightedRandomPicker
from unit.endpoint_picker.scheduling.building import endpoints

ALL = PickerParameters(max_num_of_endpoints=100)
EVERY_PICKER = pytest.mark.parametrize("picker_class", [pytest.param(cls, id=name) for name, cls in PICKERS.items()])


def order(picker: Picker, goodness: Sequence[float]) -> list[int]:
    """Return the places of the picked endpoints among the candidates."""
    candidates = endpoints(len(goodness))
    places = {candidate.address: place for place, candidate in enumerate(candidates)}
    return [places[picked.address] for picked in picker.pick(candidates, goodness)]


def firsts(picker: Picker, goodness: Sequence[float], draws: int = 600) -> Counter[int]:
    return Counter(order(picker, goodness)[0] for _ in range(draws))


@EVERY_PICKER
@given(
    goodness=st.lists(st.floats(allow_nan=False), max_size=12),
    limit=st.integers(min_value=1, max_value=15),
    seed=st.integers(),
)
def test_list_is_distinct_and_as_long_as_configured(
    picker_class: Callable[..., Picker], goodness: list[float], limit: int, seed: int
) -> None:
    picked = order(picker_class(Random(seed), PickerParameters(limit)), goodness)
    assert len(picked) == len(set(picked)) == min(limit, len(goodness))


@EVERY_PICKER
def test_three_endpoints_unless_told_otherwise(picker_class: Callable[..., Picker]) -> None:
    assert len(order(picker_class(Random(1)), [0.5] * 10)) == 3


@EVERY_PICKER
def test_equal_endpoints_all_come_first_sometimes(picker_class: Callable[..., Picker]) -> None:
    counts = firsts(picker_class(Random(1)), [0.5] * 4)
    assert sorted(counts) == [0, 1, 2, 3]
    assert min(counts.values()) > 100


def test_list_must_have_room_for_one() -> None:
    with pytest.raises(ValueError, match="max_num_of_endpoints"):
        PickerParameters(0)


@given(goodness=st.lists(st.floats(allow_nan=False), min_size=1), seed=st.integers())
def test_max_score_is_best_first(goodness: list[float], seed: int) -> None:
    picked = [goodness[place] for place in order(MaxScorePicker(Random(seed), ALL), goodness)]
    assert picked == sorted(goodness, reverse=True)


def test_random_takes_no_notice_of_goodness() -> None:
    assert min(firsts(RandomPicker(Random(1)), [1.0, 0.0, -5.0]).values()) > 150


def test_weighted_random_is_proportional_to_goodness() -> None:
    counts = firsts(WeightedRandomPicker(Random(1)), [0.9, 0.3, 0.0], draws=2000)
    assert counts[0] / counts[1] == pytest.approx(3.0, rel=0.2)
    assert 2 not in counts


@given(seed=st.integers())
def test_weighted_random_puts_the_worthless_last(seed: int) -> None:
    picked = order(WeightedRandomPicker(Random(seed), ALL), [0.0, 0.2, -1.0, 0.7])
    assert set(picked[:2]) == {1, 3}


def test_weighted_random_without_goodness_is_uniform() -> None:
    assert min(firsts(WeightedRandomPicker(Random(1)), [0.0, -1.0, -2.0]).values()) > 150


@given(seed=st.integers(), goodness=st.lists(st.floats(allow_nan=False), min_size=2, unique=True))
def test_power_of_two_is_the_better_of_two_then_the_rest_by_goodness(seed: int, goodness: list[float]) -> None:
    picked = [goodness[place] for place in order(PowerOfTwoPicker(Random(seed), ALL), goodness)]
    assert picked[0] > picked[1]
    assert picked[2:] == sorted(picked[2:], reverse=True)


def test_power_of_two_never_starts_with_the_worst_but_with_all_others() -> None:
    counts = firsts(PowerOfTwoPicker(Random(1)), [0.1, 0.2, 0.3, 0.4])
    assert sorted(counts) == [1, 2, 3]
    assert counts[3] > counts[2] > counts[1]
