"""KV blocks of a model server: reference counts, a prefix cache of full blocks, and their reuse in LRU order."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence


class KvCache:
    """A fixed number of KV blocks, shared by content.

    A block is held by sequences (counted) or free. A free block that has content stays findable until it is handed out
    again, oldest first. One block is reserved as the null block and never handed out. When two sequences compute the
    same block at the same time, only the first copy is findable.

    Written by the `Engine` that owns it, and by nobody else.

    Attributes:
        block_size: Tokens per block.
        usable_blocks: Blocks that sequences can hold: all but the null block.

    Source: the block pool of vLLM V1.
    """

    __slots__ = ("_block_of_hash", "_free", "_hash_of_block", "_references", "block_size", "usable_blocks")

    def __init__(self, *, num_blocks: int, block_size: int) -> None:
        if num_blocks < 2 or block_size < 1:
            msg = f"a KV cache needs at least 2 blocks of at least 1 token, got {num_blocks} of {block_size}"
            raise ValueError(msg)
        self.block_size = block_size
        self.usable_blocks = num_blocks - 1
        self._references = [0] * num_blocks
        self._hash_of_block: list[int | None] = [None] * num_blocks
        self._block_of_hash: dict[int, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))

    @property
    def free_blocks(self) -> int:
        """Blocks that no sequence holds, with content or without."""
        return len(self._free)

    @property
    def used_blocks(self) -> int:
        """Blocks that sequences hold."""
        return self.usable_blocks - len(self._free)

    @property
    def cached_blocks(self) -> int:
        """Blocks whose content can be found, held or free."""
        return len(self._block_of_hash)

    @property
    def usage(self) -> float:
        """Share of the usable blocks that sequences hold, 0 to 1; cached but free blocks do not count."""
        return self.used_blocks / self.usable_blocks

    def blocks_for(self, tokens: int) -> int:
        """Return how many blocks *tokens* occupy."""
        return -(-tokens // self.block_size)

    def cached_hashes(self) -> Iterator[int]:
        """Yield the content hashes that can be found now, oldest registration first."""
        return iter(self._block_of_hash)

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """Return the blocks of the longest cached prefix of *hashes*, at most *limit* of them."""
        found: list[int] = []
        block_of_hash = self._block_of_hash
        for index in range(min(limit, len(hashes))):
            block = block_of_hash.get(hashes[index])
            if block is None:
                break
            found.append(block)
        return found

    def acquire(self, cached: Sequence[int], new_blocks: int) -> list[int] | None:
        """Hold *cached* blocks and *new_blocks* empty ones for a sequence.

        Returns:
            All blocks in order, or None and no change where there are not enough free blocks.
        """
        references = self._references
        revived = [block for block in cached if not references[block]]
        free = self._free
        if new_blocks + len(revived) > len(free):
            return None
        for block in revived:
            del free[block]
        for block in cached:
            references[block] += 1
        blocks = list(cached)
        for _ in range(new_blocks):
            block, _none = free.popitem(last=False)
            self._forget(block)
            references[block] = 1
            blocks.append(block)
        return blocks

    def register(self, block: int, content_hash: int) -> None:
        """Make a full *block* findable by its content."""
        if self._block_of_hash.setdefault(content_hash, block) == block:
            self._hash_of_block[block] = content_hash

    def release(self, blocks: Sequence[int]) -> None:
        """Give up one hold on each of *blocks*; the last ones of a sequence are reused first."""
        references, free = self._references, self._free
        for block in reversed(blocks):
            references[block] -= 1
            if not references[block]:
                free[block] = None

    def clear(self) -> None:
        """Forget all content; holds stay."""
        self._block_of_hash.clear()
        self._hash_of_block = [None] * len(self._hash_of_block)

    def _forget(self, block: int) -> None:
        content_hash = self._hash_of_block[block]
        if content_hash is not None:
            del self._block_of_hash[content_hash]
            self._hash_of_block[block] = None
