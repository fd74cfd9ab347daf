"""Whether the headers of a request are well formed. Source: RFC 9113 sections 8.2 and 8.3."""

from collections.abc import Iterable
from typing import Final

_REQUIRED: Final = frozenset({":method", ":scheme", ":path"})
_PSEUDO: Final = _REQUIRED | {":authority"}
_OF_CONNECTIONS: Final = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})


def are_well_formed(pairs: Iterable[tuple[str, str]]) -> bool:
    """Return whether *pairs* may open a stream; trailers, which have no pseudo-headers, may not."""
    seen: set[str] = set()
    regular = False
    for name, value in pairs:
        if name.startswith(":"):
            if regular or name not in _PSEUDO or name in seen or not value:
                return False
            seen.add(name)
            continue
        regular = True
        if not name or name != name.lower() or name in _OF_CONNECTIONS or (name == "te" and value != "trailers"):
            return False
    return seen >= _REQUIRED
