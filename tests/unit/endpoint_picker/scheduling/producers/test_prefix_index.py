"""PrefixIndex: matches leading blocks per endpoint, within its bounds, and forgets what left."""

from collections import OrderedDict

import pytest
from hypothesis import given, settings
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


def test_forgotten_endpoint_matches_nothing() -> None:
    filled = index(a=[1, 2], b=[1])
    filled.forget("a")
    filled.forget("stranger")
    assert filled.match([1, 2], ["a", "b"]) == {"b": 1}
    assert filled.addresses == ("b",)


def test_memory_of_the_forgotten_is_freed() -> None:
    filled = index(a=[1, 2, 3], b=[1])
    filled.forget("a")
    assert len(filled) == 1


def test_over_the_overall_bound_the_forgotten_do_not_count() -> None:
    filled = PrefixIndex(max_entries=300)
    filled.record("gone", range(300), capacity=1000)
    filled.forget("gone")
    filled.record("here", range(1000, 1300), capacity=1000)
    assert filled.match(range(1000, 1300), ["here"]) == {"here": 300}


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


def test_prompts_that_share_a_beginning_lose_their_ends_first() -> None:
    filled = index(a=[1, 2, 3])
    filled.record("a", [1, 7, 8], capacity=5)
    filled.record("a", [9], capacity=5)
    assert filled.match([1, 2, 3], ["a"]) == {"a": 2}
    assert filled.match([1, 7, 8], ["a"]) == {"a": 3}


def test_repeated_prompt_is_the_most_recently_used() -> None:
    filled = index(a=[1, 2])
    filled.record("a", [7, 8], capacity=4)
    filled.record("a", [1, 2], capacity=4)
    filled.record("a", [5, 6], capacity=4)
    assert filled.match([1, 2], ["a"]) == {"a": 2}
    assert filled.match([7, 8], ["a"]) == {}


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


PROMPTS = st.text(alphabet="xyz", max_size=6).map(
    lambda text: [int.from_bytes(text[:end].encode()) for end in range(1, len(text) + 1)]
)
"""Chained hashes, as the index is given them: each stands for all that comes before it."""
ADDRESSES = st.sampled_from(["a", "b", "c"])


class PrefixIndexMachine(RuleBasedStateMachine):
    """Compares the index with plain LRU dictionaries that are walked block by block."""

    MAX_ENTRIES = 16
    CAPACITY = 8

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(self.MAX_ENTRIES)
        self.model: dict[str, OrderedDict[int, None]] = {}

    @rule(address=ADDRESSES, blocks=PROMPTS)
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
        while (excess := sum(map(len, self.model.values())) - self.MAX_ENTRIES) > 0:
            fullest = max(self.model, key=lambda other: len(self.model[other]))
            for _ in range(min(excess, len(self.model[fullest]))):
                self.model[fullest].popitem(last=False)
            if not self.model[fullest]:
                del self.model[fullest]

    @rule(address=ADDRESSES)
    def forget(self, address: str) -> None:
        self.index.forget(address)
        self.model.pop(address, None)

    @rule(blocks=PROMPTS)
    def match(self, blocks: list[int]) -> None:
        expected = {}
        for address, held in self.model.items():
            depth = next((i for i, block in enumerate(blocks) if block not in held), len(blocks))
            if depth:
                expected[address] = depth
        assert self.index.match(blocks, ["a", "b", "c"]) == expected

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.index) == sum(map(len, self.model.values()))
        assert {a: set(r.blocks) for a, r in self.index._residents.items()} == {
            address: set(held) for address, held in self.model.items()
        }

    @invariant()
    def what_is_listed_besides_is_bounded(self) -> None:
        assert_runs_fit(self.index)


TestPrefixIndexMachine = PrefixIndexMachine.TestCase
TestPrefixIndexMachine.settings = settings(max_examples=60, stateful_step_count=30)


def assert_runs_fit(filled: PrefixIndex) -> None:
    """Every block is in one run, and a run lists at most as many blocks again as are its own."""
    for resident in filled._residents.values():
        assert sum(run.live for run in resident.runs) == len(resident.blocks)
        for run in resident.runs:
            assert run.live == sum(resident.blocks.get(block) is run for block in run.blocks)
            assert 0 < len(run.blocks) <= 2 * run.live


COLLIDING = st.lists(st.integers(min_value=0, max_value=9), max_size=8)


@given(st.lists(st.tuples(ADDRESSES, COLLIDING, st.integers(min_value=1, max_value=6)), max_size=30))
def test_hashes_that_collide_break_no_bound(records: list[tuple[str, list[int], int]]) -> None:
    filled = PrefixIndex(max_entries=12)
    for address, blocks, capacity in records:
        filled.record(address, blocks, capacity)
        matched = filled.match(blocks, ["a", "b", "c"])
        assert all(0 < depth <= len(blocks) for depth in matched.values())
        assert len(filled) == sum(len(resident.blocks) for resident in filled._residents.values()) <= 12
        assert not blocks or len(filled._residents[address].blocks if address in filled.addresses else ()) <= capacity
        assert_runs_fit(filled)
    for address in filled.addresses:
        filled.forget(address)
    assert len(filled) == 0
