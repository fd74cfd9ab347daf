"""Canonical prompt bytes: what prefix hashing reads, built from values so that JSON's spelling does not matter.

Every piece begins with a control byte that says what it is, so that pieces do not run into each other and a
continued conversation continues the bytes. A clash by control bytes within text costs a wrong guess at a warm
cache, nothing else.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Final

import xxhash

from endpoint_picker.requestcontrol.body.tokens import estimate_tokens

SALT: Final = b"\x01"
SYSTEM: Final = b"\x02"
TOOLS: Final = b"\x03"
CONTEXT: Final = b"\x04"
MESSAGE: Final = b"\x1e"
FIELD: Final = b"\x1f"
MEDIA: Final = b"\x1c"
TOKEN_IDS: Final = b"\x1d"

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))
MAX_PIECES: Final = 8192
"""Messages, parts, tools and texts of one prompt that are looked at one by one."""

# Clients move these marks from message to message; they are no part of the prompt.
_NOT_PROMPT: Final = "cache_control"


class PromptWriter:
    """Collects canonical bytes up to a limit, and counts the whole prompt beyond it.

    Attributes:
        text_bytes: UTF-8 bytes of text so far.
        token_ids: Token ids so far.
        messages: Messages so far.
        media_tokens: Token constants of the media so far.
    """

    __slots__ = ("_left", "_limit", "_pieces", "_room", "media_tokens", "messages", "text_bytes", "token_ids")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._left = MAX_PIECES
        self._pieces: list[bytes] = []
        self.text_bytes = 0
        self.token_ids = 0
        self.messages = 0
        self.media_tokens = 0

    @property
    def prompt(self) -> bytes:
        """The canonical bytes, cut at the limit."""
        return b"".join(self._pieces)[: self._limit]

    @property
    def prompt_tokens(self) -> int:
        """Estimate for the whole prompt."""
        return estimate_tokens(
            text_bytes=self.text_bytes,
            token_ids=self.token_ids,
            messages=self.messages,
            media_tokens=self.media_tokens,
        )

    def take(self, values: Sequence[object]) -> Sequence[object]:
        """Return those of *values* that may be looked at one by one; the others are counted as one text, unwritten."""
        taken = values[: self._left]
        self._left -= len(taken)
        if len(taken) < len(values):
            self.text_bytes += len(_ENCODER.encode(values[len(taken) :]))
        return taken

    def mark(self, piece: bytes) -> None:
        """Write bytes that are no text: a control byte or a digest."""
        if self._room > 0:
            self._pieces.append(piece)
            self._room -= len(piece)

    def text(self, text: str) -> None:
        """Write and count text; of a long one only what fits is encoded."""
        if text.isascii():
            self.text_bytes += len(text)
            if self._room > 0:
                self.mark(text[: self._room].encode())
        else:
            encoded = text.encode()
            self.text_bytes += len(encoded)
            if self._room > 0:
                self.mark(encoded[: self._room])

    def value(self, value: object) -> None:
        """Write and count a JSON value: text as it is, anything else compact with sorted keys."""
        self.text(value if isinstance(value, str) else _ENCODER.encode(_without_marks(value)))

    def message(self, role: str) -> None:
        """Begin a message."""
        self.messages += 1
        self.mark(MESSAGE + role.encode() + FIELD)

    def media(self, source: object, tokens: int) -> None:
        """Write the digest of a picture, sound or file and count *tokens* for it."""
        self.media_tokens += tokens
        text = source if isinstance(source, str) else _ENCODER.encode(_without_marks(source))
        self.mark(MEDIA + xxhash.xxh3_128_digest(text))

    def ids(self, ids: list[object]) -> None:
        """Write token ids, four bytes little-endian each; what does not fit those is written as JSON."""
        self.token_ids += len(ids)
        kept = ids[: max(self._room, 0) // 4 + 1]
        try:
            packed = struct.pack(f"<{len(kept)}I", *kept)
        except struct.error:
            packed = _ENCODER.encode(kept).encode()
        self.mark(TOKEN_IDS)
        self.mark(packed)


def _without_marks(value: object) -> object:
    if isinstance(value, Mapping) and _NOT_PROMPT in value:
        return {key: inner for key, inner in value.items() if key != _NOT_PROMPT}
    return value
