"""The waiting queue of a simulated engine: by priority, then by arrival."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from igw.simulator.sequence import SequenceState


class WaitingQueue:
    """Sequences that wait for admission, best first.

    A preempted sequence keeps its arrival order, so it returns ahead of everything that arrived after it. An aborted
    sequence (no longer live) is skipped wherever it stands.
    """

    __slots__ = ("_heap", "_members")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, SequenceState]] = []
        self._members: dict[int, SequenceState] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[SequenceState]:
        return iter(self._members.values())

    def push(self, state: SequenceState) -> None:
        """Add a sequence at its place."""
        heappush(self._heap, (state.priority, state.order, state))
        self._members[state.order] = state

    def first(self) -> SequenceState | None:
        """Return the best sequence without taking it, None when empty."""
        heap = self._heap
        while heap and heap[0][1] not in self._members:
            heappop(heap)
        return heap[0][2] if heap else None

    def pop(self) -> SequenceState:
        """Take the best sequence; IndexError when empty."""
        state = self.first()
        if state is None:
            msg = "no sequence waits"
            raise IndexError(msg)
        heappop(self._heap)
        del self._members[state.order]
        return state

    def discard(self, state: SequenceState) -> None:
        """Take *state* out, wherever it stands."""
        if self._members.pop(state.order, None) and len(self._heap) > 2 * len(self._members) + 64:
            self._heap = [entry for entry in self._heap if entry[1] in self._members]
            heapify(self._heap)
