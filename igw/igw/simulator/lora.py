"""LoRA adapter slots of a model server: which adapters are resident, and what loading another costs."""

from collections import OrderedDict
from collections.abc import Collection


class AdapterSlots:
    """A bounded set of resident adapters, replaced least recently used first.

    Written by the `Engine` that owns it, and by nobody else.

    Attributes:
        slots: Adapters that fit at once; 0: the server serves none.
        load_seconds: Time a step is prolonged by when an adapter has to be brought in.
    """

    __slots__ = ("_resident", "load_seconds", "slots")

    def __init__(self, *, slots: int, load_seconds: float) -> None:
        if slots < 0 or load_seconds < 0:
            msg = f"adapter slots and load time must not be negative, got {slots} and {load_seconds}"
            raise ValueError(msg)
        self.slots = slots
        self.load_seconds = load_seconds
        self._resident: OrderedDict[str, None] = OrderedDict()

    @property
    def resident(self) -> tuple[str, ...]:
        """Resident adapters, least recently used first."""
        return tuple(self._resident)

    def fits(self, adapter: str, active: Collection[str]) -> bool:
        """Tell whether a sequence of *adapter* may join a batch that already uses the *active* adapters."""
        return adapter in active or len(active) < self.slots

    def use(self, adapter: str, active: Collection[str]) -> float:
        """Make *adapter* resident and return the seconds that takes; never drops one of the *active* adapters."""
        if adapter in self._resident:
            self._resident.move_to_end(adapter)
            return 0.0
        if len(self._resident) >= self.slots:
            idle = next(name for name in self._resident if name not in active)
            del self._resident[idle]
        self._resident[adapter] = None
        return self.load_seconds

    def drop(self, adapter: str) -> None:
        """Forget *adapter*, resident or not."""
        self._resident.pop(adapter, None)
