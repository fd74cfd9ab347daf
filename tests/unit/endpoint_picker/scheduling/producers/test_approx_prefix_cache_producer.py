"""approx-prefix-cache-producer: equal beginnings of prompts for the same model match where they were sent before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.request import InferenceRequest
from endpoint_picker.scheduling.interfaces import NO_FACTS, PrefixMatch, Producer
from endpoint_picker.scheduling.producers.approx_prefix_cache import (
    ApproxPrefixCacheParameters,
    ApproxPrefixCacheProducer,
)
from endpoint_picker.scheduling.producers.prefix_index import PrefixIndex
from unit.endpoint_picker.scheduling.building import endpoint

HERE, THERE = endpoint("here:1"), endpoint("there:1")
BLOCK = 64


def producer(**parameters: int) -> ApproxPrefixCacheProducer:
    return ApproxPrefixCacheProducer(PrefixIndex(), ApproxPrefixCacheParameters(**parameters))


def request(prompt: bytes, model: str = "base") -> InferenceRequest:
    return InferenceRequest(target_model=model, prompt=prompt)


def match(cache: Producer, prompt: bytes, model: str = "base") -> PrefixMatch:
    found = cache.produce(request(prompt, model), [HERE, THERE], NO_FACTS).prefix
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("first", "second", "total", "matched"),
    [
        pytest.param(b"a" * 256, b"a" * 256, 4, 4, id="same-prompt"),
        pytest.param(b"a" * 128, b"a" * 128 + b"b" * 128, 4, 2, id="next-turn-extends"),
        pytest.param(b"b" + b"a" * 255, b"a" * 256, 4, 0, id="other-first-byte"),
        pytest.param(b"a" * 64 + b"b" * 64 + b"c" * 64, b"a" * 64 + b"x" * 64 + b"c" * 64, 3, 1, id="middle-differs"),
        pytest.param(b"a" * 63, b"a" * 63, 0, 0, id="shorter-than-a-block"),
        pytest.param(b"a" * 127, b"a" * 127, 1, 1, id="trailing-partial-block-is-left-out"),
        pytest.param(b"", b"", 0, 0, id="empty"),
    ],
)
def test_match(first: bytes, second: bytes, total: int, matched: int) -> None:
    cache = producer()
    cache.picked(request(first), HERE)
    found = match(cache, second)
    assert (found.total_blocks, found.matched_blocks) == (total, {"here:1": matched} if matched else {})
    assert found.matched_tokens("here:1") == matched * 16
    assert found.matched_tokens("there:1") == 0


def test_models_do_not_share_a_cache() -> None:
    cache = producer()
    cache.picked(request(b"a" * 256, "base"), HERE)
    assert match(cache, b"a" * 256, "adapter").matched_blocks == {}


def test_looking_changes_nothing() -> None:
    cache = producer()
    match(cache, b"a" * 256)
    assert match(cache, b"a" * 256).matched_blocks == {}


def test_hashes_of_the_decision_are_used_again() -> None:
    cache = producer()
    asked = request(b"a" * 256)
    facts = cache.produce(asked, [HERE, THERE], NO_FACTS)
    cache.picked(request(b"ignored" * 100), THERE, facts)
    assert match(cache, b"a" * 256).matched_blocks == {"there:1": 4}


def test_parameters_bound_hashing_and_memory() -> None:
    cache = producer(block_size_tokens=1, max_prefix_blocks_to_match=5, lru_capacity_per_server=3)
    cache.picked(request(b"abcd" * 9), HERE)
    found = match(cache, b"abcd" * 9)
    assert (found.total_blocks, found.matched_blocks) == (5, {"here:1": 3})


@pytest.mark.parametrize("name", ["block_size_tokens", "max_prefix_blocks_to_match", "lru_capacity_per_server"])
def test_parameters_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ApproxPrefixCacheParameters(**{name: 0})


@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=400))
def test_matched_blocks_are_the_common_beginning(common: bytes, one: bytes, other: bytes) -> None:
    cache = producer(block_size_tokens=2)
    first, second = common + one, common + other
    cache.picked(request(first), HERE)
    same = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    assert match(cache, second).matched_blocks.get("here:1", 0) == same // 8
