"""Keep label values bounded: what a client invents never becomes a time series."""

from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
MAX_LABEL_VALUES: Final = 1000


class BoundedNames:
    """Names that may be label values: those made known, up to a limit over the life of the process.

    Args:
        limit: Most distinct names ever let through.
    """

    def __init__(self, *, limit: int = MAX_LABEL_VALUES) -> None:
        self._limit = limit
        self._known: frozenset[str] = frozenset()
        self._used: set[str] = set()

    def allow(self, names: Iterable[str]) -> None:
        """Replace the known names."""
        self._known = frozenset(names)

    def fold(self, name: str) -> str:
        """Return *name* if it is known and there is room, empty for an empty one, else ``other``."""
        if not name:
            return ""
        if name not in self._known:
            return OTHER
        if name not in self._used:
            if len(self._used) >= self._limit:
                return OTHER
            self._used.add(name)
        return name
