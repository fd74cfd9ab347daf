"""Which endpoint is believed to have which prompt blocks cached: the memory of the approximate prefix cache."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence


class _Run:
    """Blocks that one record used last, first block first.

    Attributes:
        blocks: Distinct; may still list some, at most half, that a later record has used since.
        live: How many of them no later record has used.
    """

    __slots__ = ("blocks", "live")

    def __init__(self, blocks: tuple[int, ...]) -> None:
        self.blocks = blocks
        self.live = len(blocks)


class _Resident:
    """The blocks of one endpoint, each with the run it was last used in, and the runs, least recently used first."""

    __slots__ = ("blocks", "runs")

    def __init__(self) -> None:
        self.blocks: dict[int, _Run] = {}
        self.runs: OrderedDict[_Run, None] = OrderedDict()


class PrefixIndex:
    """Per endpoint an LRU of block hashes.

    Written only at a pick (`record`) and when an endpoint leaves (`forget`); not safe for threads.

    Hashes are chained: a block's hash stands for all blocks before it as well. Since a record uses the beginning of its
    prompt last, an endpoint that holds a block holds all blocks before it, so `match` need not look at each. Hashes
    that break the rule, by a collision, make matches wrong and harm nothing else.

    The LRU is kept by runs, one per record, and not by blocks: most blocks come and go with the rest of their prompt.

    Bounds: every endpoint holds at most the capacity given at `record`, all together at most *max_entries*; beyond that
    the endpoint with the most entries loses its oldest. One entry takes about 130 bytes, twice as much where prompts
    are a single block. A record takes time in proportion to the prompt's blocks, a match in proportion to the endpoints
    asked for.

    Args:
        max_entries: Blocks over all endpoints, counted once per endpoint; ValueError unless positive.
    """

    __slots__ = ("_entries", "_max_entries", "_residents")

    def __init__(self, max_entries: int = 400_000) -> None:
        if max_entries < 1:
            msg = f"max_entries must be positive, got {max_entries}"
            raise ValueError(msg)
        self._max_entries = max_entries
        self._entries = 0
        self._residents: dict[str, _Resident] = {}

    def __len__(self) -> int:
        """Return the entries in memory."""
        return self._entries

    @property
    def addresses(self) -> tuple[str, ...]:
        """Endpoints that hold anything; those that have left should be told to `forget`."""
        return tuple(self._residents)

    def match(self, block_hashes: Sequence[int], addresses: Iterable[str]) -> dict[str, int]:
        """Return how many leading blocks each of *addresses* holds; one that holds not even the first is left out."""
        matched: dict[str, int] = {}
        if not block_hashes:
            return matched
        first, last, count = block_hashes[0], block_hashes[-1], len(block_hashes)
        residents = self._residents
        depth = 1
        for address in addresses:
            resident = residents.get(address)
            if resident is None or first not in (blocks := resident.blocks):
                continue
            if last in blocks:
                matched[address] = count
                continue
            # Endpoints that share the beginning of a prompt share it to the same block mostly.
            if block_hashes[depth] in blocks or block_hashes[depth - 1] not in blocks:
                depth = _held(blocks, block_hashes)
            matched[address] = depth
        return matched

    def record(self, address: str, block_hashes: Sequence[int], capacity: int) -> None:
        """Note that *address* is about to hold the blocks, and forget its oldest beyond *capacity*.

        The first block counts as the most recently used: a prefix without its beginning matches nothing, so the ends
        are forgotten first.
        """
        if not block_hashes:
            return
        resident = self._residents.get(address)
        if resident is None:
            resident = self._residents[address] = _Resident()
        before = len(resident.blocks)
        _use(resident, tuple(block_hashes))
        held = len(resident.blocks)
        self._entries += held - before
        if held > capacity:
            self._evict(address, held - capacity)
        while (excess := self._entries - self._max_entries) > 0:
            self._evict(max(self._residents, key=lambda other: len(self._residents[other].blocks)), excess)

    def forget(self, address: str) -> None:
        """Match *address* no more and free its memory; nothing happens if it holds nothing."""
        resident = self._residents.pop(address, None)
        if resident is not None:
            self._entries -= len(resident.blocks)

    def _evict(self, address: str, count: int) -> None:
        """Drop the *count* oldest blocks of *address*, and itself when it holds nothing more."""
        resident = self._residents[address]
        before = len(resident.blocks)
        _drop_oldest(resident, count)
        self._entries -= before - len(resident.blocks)
        if not resident.blocks:
            del self._residents[address]


def _held(blocks: dict[int, _Run], block_hashes: Sequence[int]) -> int:
    """Return how many leading blocks are held, knowing that the first is."""
    return bisect_left(block_hashes, 1, lo=1, key=lambda block_hash: block_hash not in blocks)


def _use(resident: _Resident, block_hashes: tuple[int, ...]) -> None:
    """Make the blocks the most recently used ones."""
    blocks, runs = resident.blocks, resident.runs
    repeated = blocks.get(block_hashes[0])
    if repeated is not None and repeated.live == len(block_hashes) and repeated.blocks == block_hashes:
        runs.move_to_end(repeated)
        return
    if not blocks.keys().isdisjoint(block_hashes):
        _take_out(resident, block_hashes)
    run = _Run(block_hashes)
    used = dict.fromkeys(block_hashes, run)
    if len(used) < len(block_hashes):
        run.blocks, run.live = tuple(used), len(used)
    blocks.update(used)
    runs[run] = None


def _take_out(resident: _Resident, block_hashes: Iterable[int]) -> None:
    """Take blocks that are used again out of their runs."""
    blocks = resident.blocks
    shrunk: dict[_Run, None] = {}
    for block_hash in block_hashes:
        run = blocks.pop(block_hash, None)
        if run is not None:
            run.live -= 1
            shrunk[run] = None
    for run in shrunk:
        if not run.live:
            del resident.runs[run]
        elif 2 * run.live <= len(run.blocks):
            run.blocks = tuple([block_hash for block_hash in run.blocks if blocks.get(block_hash) is run])


def _drop_oldest(resident: _Resident, count: int) -> None:
    """Drop the *count* oldest blocks, all if there are fewer."""
    blocks, runs = resident.blocks, resident.runs
    while count > 0 and runs:
        run = next(iter(runs))
        live = run.blocks
        if run.live < len(live):
            live = tuple([block_hash for block_hash in live if blocks.get(block_hash) is run])
        kept = max(0, len(live) - count)
        for block_hash in live[kept:]:
            del blocks[block_hash]
        count -= len(live) - kept
        run.blocks, run.live = live[:kept], kept
        if not kept:
            del runs[run]
