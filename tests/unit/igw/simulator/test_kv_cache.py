"""KV blocks are counted, shared by content, and reused oldest first; the null block is never handed out."""

import pytest

from igw.simulator.kv_cache import KvCache


def filled(cache: KvCache, *hashes: int) -> list[int]:
    blocks = cache.acquire((), len(hashes))
    assert blocks is not None
    for block, content in zip(blocks, hashes, strict=True):
        cache.register(block, content)
    return blocks


def test_one_block_is_reserved() -> None:
    cache = KvCache(num_blocks=4, block_size=16)
    assert cache.usable_blocks == 3
    assert cache.acquire((), 3) == [1, 2, 3]
    assert cache.acquire((), 1) is None


def test_usage_counts_held_blocks_only() -> None:
    cache = KvCache(num_blocks=5, block_size=16)
    blocks = filled(cache, 10, 11)
    assert cache.usage == 0.5
    cache.release(blocks)
    assert (cache.usage, cache.cached_blocks) == (0.0, 2)


def test_match_stops_at_the_first_miss_and_at_the_limit() -> None:
    cache = KvCache(num_blocks=9, block_size=16)
    blocks = filled(cache, 10, 11, 12)
    assert cache.match([10, 11, 99, 12], 4) == blocks[:2]
    assert cache.match([10, 11, 12], 1) == blocks[:1]
    assert cache.match([11, 12], 2) == blocks[1:]


def test_a_shared_block_is_freed_by_its_last_holder() -> None:
    cache = KvCache(num_blocks=4, block_size=16)
    first = filled(cache, 10)
    second = cache.acquire(cache.match([10], 1), 1)
    assert second is not None
    assert second[0] == first[0]
    cache.release(first)
    assert cache.used_blocks == 2
    cache.release(second)
    assert cache.used_blocks == 0


def test_the_oldest_free_content_is_lost_first_and_the_tail_of_a_sequence_before_its_head() -> None:
    cache = KvCache(num_blocks=5, block_size=16)
    old, young = filled(cache, 10, 11), filled(cache, 20, 21)
    cache.release(old)
    cache.release(young)
    assert cache.acquire((), 1) is not None
    assert sorted(cache.cached_hashes()) == [10, 20, 21]
    assert cache.acquire((), 2) is not None
    assert sorted(cache.cached_hashes()) == [20]


def test_a_failed_acquisition_changes_nothing() -> None:
    cache = KvCache(num_blocks=4, block_size=16)
    cache.release(filled(cache, 10, 11))
    cached = cache.match([10, 11], 2)
    assert cache.acquire(cached, 2) is None
    assert (cache.free_blocks, cache.cached_blocks) == (3, 2)
    assert cache.match([10, 11], 2) == cached


def test_the_first_copy_of_equal_content_stays_findable() -> None:
    cache = KvCache(num_blocks=4, block_size=16)
    first, second = filled(cache, 10), filled(cache, 10)
    cache.release(second)
    assert cache.match([10], 1) == first


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_blocks_for(tokens: int, blocks: int) -> None:
    assert KvCache(num_blocks=4, block_size=16).blocks_for(tokens) == blocks


def test_clear_forgets_content_but_not_holds() -> None:
    cache = KvCache(num_blocks=4, block_size=16)
    blocks = filled(cache, 10)
    cache.clear()
    assert (cache.cached_blocks, cache.used_blocks) == (0, 1)
    cache.release(blocks)
    assert cache.free_blocks == 3


def test_too_small_a_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 blocks"):
        KvCache(num_blocks=1, block_size=16)
