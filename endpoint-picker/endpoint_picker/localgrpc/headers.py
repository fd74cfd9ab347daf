"""What is to be known of header blocks beyond their values. Source: RFC 9113 section 8, RFC 7541 section 6."""

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


def leaves_table(block: bytes) -> bool:
    """Return whether decoding *block* leaves the header table as it was; False too for a block that is cut off."""
    position = 0
    while position < len(block):
        first = block[position]
        if first & 0x80:  # indexed
            position = _after_number(block, position, 0x7F)[1]
        elif first & 0x60:  # literal to be remembered, or another size of the table
            return False
        else:
            index, position = _after_number(block, position, 0x0F)
            for _ in range(1 if index else 2):
                if position >= len(block):
                    return False
                length, position = _after_number(block, position, 0x7F)
                position += length
    return position == len(block)


def _after_number(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Return the integer that begins at *position*, and where it ends."""
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    shift = 0
    while position < len(block):
        part = block[position]
        position += 1
        value += (part & 0x7F) << shift
        shift += 7
        if not part & 0x80:
            return value, position
    return value, len(block) + 1
