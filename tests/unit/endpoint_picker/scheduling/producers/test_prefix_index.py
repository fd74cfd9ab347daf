"""PrefixIndex: matches leading blocks per endpoint, within its bounds, and forgets what left."""

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from endpoint_picker.scheduling.producers.prefix_index import SWEPT_PER_RECORD, PrefixIndex


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


def test_forgotten_endpoint_matches_nothing() -> None:
    filled = index(a=[1, 2], b=[1])
    filled.forget("a")
    filled.forget("stranger")
    assert filled.match([1, 2], ["a", "b"]) == {"b": 1}
    assert filled.addresses == ("b",)


def test_memory_of_the_forgotten_is_freed_bit_by_bit() -> None:
    filled = PrefixIndex()
    filled.record("a", range(SWEPT_PER_RECORD + 1), capacity=1000)
    filled.forget("a")
    sizes = []
    for _ in range(3):
        filled.record("b", [0], capacity=1)
        sizes.append(len(filled))
    assert sizes == [2, 1, 1]


def test_over_the_overall_bound_the_forgotten_give_way_first() -> None:
    filled = PrefixIndex(max_entries=300)
    filled.record("gone", range(300), capacity=1000)
    filled.forget("gone")
    filled.record("here", range(1000, 1200), capacity=1000)
    assert filled.match(range(1000, 1200), ["here"]) == {"here": 200}
    assert len(filled) == 300


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


def test_endpoint_that_lost_its_last_block_is_gone() -> None:
    filled = PrefixIndex(max_entries=1)
    filled.record("a", [1], capacity=10)
    filled.record("b", [2], capacity=10)
    assert filled.addresses == ("b",)
    assert filled.match([1], ["a", "b"]) == {}


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
    assert len(filled) <= 1
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
        self.departed = 0  # at most so many are not cleared away yet

    @rule(address=ADDRESSES, blocks=BLOCKS)
    def record(self, address: str, blocks: list[int]) -> None:
        self.index.record(address, blocks, self.CAPACITY)
        self.departed = max(0, self.departed - bool(blocks))  # one record clears one of these small ones away
        held = self.model.setdefault(address, OrderedDict())
        for block in reversed(blocks):
            held[block] = None
            held.move_to_end(block)
        while len(held) > self.CAPACITY:
            held.popitem(last=False)
        if not held:
            del self.model[address]
        while (excess := sum(map(len, self.model.values())) - self.MAX_ENTRIES) > 0:
            fullest = max(self.model, key=lambda other: len(self.model[other]))
            for _ in range(min(excess, len(self.model[fullest]))):
                self.model[fullest].popitem(last=False)
            if not self.model[fullest]:
                del self.model[fullest]

    @rule(address=ADDRESSES)
    def forget(self, address: str) -> None:
        self.index.forget(address)
        self.departed += self.model.pop(address, None) is not None

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
        assert sum(map(len, self.model.values())) <= len(self.index) <= self.MAX_ENTRIES
        assert set(self.index.addresses) == set(self.model)

    @invariant()
    def departed_endpoints_leave_nothing_behind(self) -> None:
        if not self.departed:
            assert len(self.index) == sum(map(len, self.model.values()))
            assert set(self.index._owners) == {block for held in self.model.values() for block in held}


TestPrefixIndexMachine = PrefixIndexMachine.TestCase
TestPrefixIndexMachine.settings = settings(max_examples=40, stateful_step_count=30)
