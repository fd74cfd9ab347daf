"""Which endpoint is believed to have which prompt blocks cached: the memory of the approximate prefix cache."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SWEPT_PER_RECORD = 128
"""Blocks of departed endpoints that one `PrefixIndex.record` clears away."""


@dataclass(slots=True)
class _Resident:
    """The blocks of one endpoint, least recently used first, and the bit that stands for it in the owners' masks."""

    address: str
    bit: int
    blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)


class PrefixIndex:
    """Per endpoint an LRU of block hashes, and for every hash the set of endpoints that hold it.

    Written only at a pick (`record`) and when an endpoint leaves (`forget`); not safe for threads. Sets of endpoints
    are bit masks, so a lookup costs one dictionary access per block, however many endpoints there are.

    Bounds: every endpoint holds at most the capacity given at `record`, all together at most *max_entries*; beyond that
    those that have left go first, then the endpoint with the most entries loses its oldest. One entry takes about 200
    bytes. Every operation takes time in proportion to the prompt's blocks.

    Args:
        max_entries: Blocks over all endpoints, counted once per endpoint; ValueError unless positive.
    """

    __slots__ = (
        "_departed",
        "_entries",
        "_free_bits",
        "_max_entries",
        "_next_bit",
        "_owners",
        "_residents",
        "_residents_by_bit",
    )

    def __init__(self, max_entries: int = 400_000) -> None:
        if max_entries < 1:
            msg = f"max_entries must be positive, got {max_entries}"
            raise ValueError(msg)
        self._max_entries = max_entries
        self._entries = 0
        self._owners: dict[int, int] = {}
        self._residents: dict[str, _Resident] = {}
        self._residents_by_bit: dict[int, _Resident] = {}
        self._departed: list[_Resident] = []
        self._free_bits: list[int] = []
        self._next_bit = 1

    def __len__(self) -> int:
        """Return the entries in memory, with those of departed endpoints that are not cleared away yet."""
        return self._entries

    @property
    def addresses(self) -> tuple[str, ...]:
        """Endpoints that hold anything; those that have left should be told to `forget`."""
        return tuple(self._residents)

    def match(self, block_hashes: Sequence[int], addresses: Iterable[str]) -> dict[str, int]:
        """Return how many leading blocks each of *addresses* holds; one that holds not even the first is left out.

        The walk ends at the first block that nobody holds who held all before it.
        """
        residents = self._residents
        holding = 0
        for address in addresses:
            resident = residents.get(address)
            if resident is not None:
                holding |= resident.bit
        matched: dict[str, int] = {}
        if not holding:
            return matched
        owners = self._owners
        for depth, block_hash in enumerate(block_hashes):
            still_holding = holding & owners.get(block_hash, 0)
            if still_holding != holding:
                if depth:
                    self._note(matched, holding ^ still_holding, depth)
                holding = still_holding
                if not holding:
                    return matched
        if block_hashes:
            self._note(matched, holding, len(block_hashes))
        return matched

    def record(self, address: str, block_hashes: Sequence[int], capacity: int) -> None:
        """Note that *address* is about to hold the blocks, and forget its oldest beyond *capacity*.

        The first block counts as the most recently used: a prefix without its beginning matches nothing, so the ends
        are forgotten first.
        """
        if not block_hashes:
            return
        if self._departed:
            self._sweep(SWEPT_PER_RECORD)
        resident = self._residents.get(address) or self._admit(address)
        blocks, bit, owners = resident.blocks, resident.bit, self._owners
        before = len(blocks)
        for block_hash in reversed(block_hashes):
            if block_hash in blocks:
                blocks.move_to_end(block_hash)
            else:
                blocks[block_hash] = None
                owners[block_hash] = owners.get(block_hash, 0) | bit
        self._entries += len(blocks) - before
        self._evict(resident, len(blocks) - capacity)
        while (excess := self._entries - self._max_entries) > 0:
            if self._departed:
                self._sweep(excess)
                continue
            fullest = max(self._residents.values(), key=lambda other: len(other.blocks))
            self._evict(fullest, excess)

    def forget(self, address: str) -> None:
        """Match *address* no more; nothing happens if it holds nothing. Its memory is freed during later records."""
        resident = self._residents.pop(address, None)
        if resident is not None:
            self._departed.append(resident)

    def _note(self, matched: dict[str, int], bits: int, depth: int) -> None:
        while bits:
            bit = bits & -bits
            matched[self._residents_by_bit[bit].address] = depth
            bits ^= bit

    def _admit(self, address: str) -> _Resident:
        if self._free_bits:
            bit = self._free_bits.pop()
        else:
            bit = self._next_bit
            self._next_bit <<= 1
        resident = _Resident(address, bit)
        self._residents[address] = resident
        self._residents_by_bit[bit] = resident
        return resident

    def _sweep(self, count: int) -> None:
        resident = self._departed[-1]
        self._evict(resident, count)
        if not resident.blocks:
            self._departed.pop()

    def _evict(self, resident: _Resident, count: int) -> None:
        """Drop the *count* oldest blocks of *resident* (none if negative), and itself when it holds nothing more."""
        blocks = resident.blocks
        owners = self._owners
        count = max(0, min(count, len(blocks)))
        for _ in range(count):
            block_hash, _ = blocks.popitem(last=False)
            others = owners[block_hash] ^ resident.bit
            if others:
                owners[block_hash] = others
            else:
                del owners[block_hash]
        self._entries -= count
        if not blocks:
            if self._residents.get(resident.address) is resident:
                del self._residents[resident.address]
            del self._residents_by_bit[resident.bit]
            self._free_bits.append(resident.bit)
