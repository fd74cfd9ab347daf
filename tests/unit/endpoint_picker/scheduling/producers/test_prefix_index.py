"""PrefixIndex: matches leading blocks per endpoint, within its bounds, and forgets what left."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from endpoint_picker.scheduling.producers.prefix_index import PrefixIndex


def index(**held: list[int]) -> PrefixIndex:
    filled = PrefixIndex()
    for address, blocks in held.items():
        filled.record(address, blocks, capacity=100)
    return filled


@pytest.mark.parametrize(
    ("held", "asked", "expected"),
    [
        pytest.param({"a": [1, 2, 3]}, [1, 2, 3], {"a": 3}, id="whole-prompt"),
        pytest.param({"a": [1, 2, 3]}, [1, 2, 9], {"a": 2}, id="beginning"),
        pytest.param({"a": [1, 2, 3], "b": [1]}, [1, 2, 3, 4], {"a": 3, "b": 1}, id="each-as-far-as-it-goes"),
        pytest.param({"a": [2, 3], "b": [1, 2]}, [1, 2, 3], {"b": 2}, id="without-the-first-block-nothing-matches"),
        pytest.param({"a": [1], "b": [5]}, [9], {}, id="nobody"),
        pytest.param({}, [1], {}, id="empty-index"),
        pytest.param({"a": [1]}, [], {}, id="empty-prompt"),
        pytest.param({"a": [1], "z": [1]}, [1], {"a": 1}, id="only-those-asked-for"),
    ],
)
def test_match(held: dict[str, list[int]], asked: list[int], expected: dict[str, int]) -> None:
    assert index(**held).match(asked, ["a", "b"]) == expected


def test_empty_prompt_is_not_remembered() -> None:
    assert index(a=[]).addresses == ()


def test_forgotten_endpoint_matches_nothing_and_costs_nothing() -> None:
    filled = index(a=[1, 2], b=[1])
    filled.forget("a")
    filled.forget("stranger")
    assert filled.match([1, 2], ["a", "b"]) == {"b": 1}
    assert (len(filled), filled.addresses) == (1, ("b",))


def test_newcomer_does_not_inherit_what_the_forgotten_held() -> None:
    filled = index(a=[1, 2])
    filled.forget("a")
    filled.record("new", [7], capacity=10)
    assert filled.match([1, 2], ["new", "a"]) == {}


def test_full_endpoint_keeps_the_beginning_of_the_latest_prompt() -> None:
    filled = index(a=[1, 2, 3])
    filled.record("a", [7, 8, 9], capacity=2)
    assert filled.match([7, 8, 9], ["a"]) == {"a": 2}
    assert filled.match([1, 2, 3], ["a"]) == {}


def test_used_blocks_stay() -> None:
    filled = index(a=[1, 2])
    filled.record("a", [7, 8], capacity=4)
    filled.record("a", [1, 2], capacity=4)
    filled.record("a", [9], capacity=4)
    assert filled.match([1, 2], ["a"]) == {"a": 2}
    assert filled.match([7, 8], ["a"]) == {"a": 1}


def test_over_the_overall_bound_the_fullest_endpoint_gives_way() -> None:
    filled = PrefixIndex(max_entries=5)
    filled.record("big", [1, 2, 3, 4], capacity=10)
    filled.record("small", [1, 2], capacity=10)
    assert filled.match([1, 2, 3, 4], ["big", "small"]) == {"big": 3, "small": 2}
    assert len(filled) == 5


def test_prompt_larger_than_the_index_keeps_its_beginning() -> None:
    filled = PrefixIndex(max_entries=2)
    filled.record("a", [1, 2, 3], capacity=10)
    assert filled.match([1, 2, 3], ["a"]) == {"a": 2}


def test_bound_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_entries"):
        PrefixIndex(max_entries=0)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_places_of_forgotten_endpoints_are_used_again(addresses: list[str]) -> None:
    filled = PrefixIndex()
    for address in addresses:
        filled.record(address, [1], capacity=1)
        filled.forget(address)
    assert len(filled) == 0
    assert filled._next_bit <= 2


BLOCKS = st.lists(st.integers(min_value=0, max_value=12), unique=True, max_size=6)
ADDRESSES = st.sampled_from(["a", "b", "c"])


class PrefixIndexMachine(RuleBasedStateMachine):
    """Compares the index with plain LRU dictionaries."""

    MAX_ENTRIES = 12
    CAPACITY = 5

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(self.MAX_ENTRIES)
        self.model: dict[str, OrderedDict[int, None]] = {}

    @rule(address=ADDRESSES, blocks=BLOCKS)
    def record(self, address: str, blocks: list[int]) -> None:
        self.index.record(address, blocks, self.CAPACITY)
        held = self.model.setdefault(address, OrderedDict())
        for block in reversed(blocks):
            held[block] = None
            held.move_to_end(block)
        while len(held) > self.CAPACITY:
            held.popitem(last=False)
        if not held:
            del self.model[address]
        while sum(map(len, self.model.values())) > self.MAX_ENTRIES:
            max(self.model.values(), key=len).popitem(last=False)

    @rule(address=ADDRESSES)
    def forget(self, address: str) -> None:
        self.index.forget(address)
        self.model.pop(address, None)

    @rule(blocks=BLOCKS)
    def match(self, blocks: list[int]) -> None:
        expected = {}
        for address, held in self.model.items():
            depth = next((i for i, block in enumerate(blocks) if block not in held), len(blocks))
            if depth:
                expected[address] = depth
        assert self.index.match(blocks, ["a", "b", "c"]) == expected

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.index) == sum(map(len, self.model.values())) <= self.MAX_ENTRIES
        assert set(self.index.addresses) == set(self.model)
        assert set(self.index._owners) == {block for held in self.model.values() for block in held}


TestPrefixIndexMachine = PrefixIndexMachine.TestCase
