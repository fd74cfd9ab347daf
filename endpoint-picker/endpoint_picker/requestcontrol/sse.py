"""Framing of a server-sent event stream: bytes in, the bytes of each event out, whatever the chunks.

Lines end with LF, CRLF or CR. An event ends with the second of two line ends in a row and is handed out at once: when
that line end is a CR and its LF comes with a later chunk, the LF follows as a piece of its own, so no event waits for
the next. Memory is bounded: an event larger than the limit is handed out in fragments as it comes.

Source: "Server-sent events" of the HTML standard.
"""

import re
from enum import Enum, auto
from typing import NamedTuple

DEFAULT_MAX_EVENT_BYTES = 1 << 20

_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_LINE_END = 2


class PieceKind(Enum):
    """What a piece of the stream is."""

    EVENT = auto()
    """One event with its terminator; without one only as the last piece of a stream."""
    FRAGMENT = auto()
    """Part of an event above the limit, more follows."""
    LAST_FRAGMENT = auto()
    """End of an event above the limit, or all of it."""
    LATE_LINE_FEED = auto()
    """The line feed that belongs to the terminator of the event before."""
    BYTE_ORDER_MARK = auto()
    """The mark a stream may begin with, before its first event; anywhere else it is part of a line."""


class Piece(NamedTuple):
    """Consecutive bytes of the stream; all pieces joined are the stream."""

    raw: bytes
    kind: PieceKind


class SseFramer:
    """Cut a stream into pieces.

    Any split of the same bytes into chunks gives the same events, and the same events are above the limit.

    Attributes:
        max_event_bytes: Largest event, its terminator not counted, that is handed out whole; at least 1.
    """

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        if max_event_bytes < 1:
            msg = f"max_event_bytes must be at least 1, got {max_event_bytes}"
            raise ValueError(msg)
        self.max_event_bytes = max_event_bytes
        self._pending = bytearray()
        self._oversized = False
        self._line_feed_may_follow = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[Piece]:
        """Return the pieces that *chunk* completes, in order."""
        if not chunk:
            return []
        pieces: list[Piece] = []
        start = 0
        if self._line_feed_may_follow:
            self._line_feed_may_follow = False
            if chunk.startswith(b"\n"):
                pieces.append(Piece(b"\n", PieceKind.LATE_LINE_FEED))
                start = 1
        if self._pending:
            start = self._complete_pending(chunk, start, pieces)
        if not self._pending:
            self._cut(chunk, start, pieces)
        if len(self._pending) > self.max_event_bytes + _LONGEST_LINE_END:
            self._oversized = True
        if self._oversized and len(self._pending) > _LONGEST_LINE_END:
            pieces.append(Piece(bytes(self._pending[:-_LONGEST_LINE_END]), PieceKind.FRAGMENT))
            del self._pending[:-_LONGEST_LINE_END]
        return self._without_mark(pieces) if self._at_start and pieces else pieces

    def finish(self) -> list[Piece]:
        """Return what is left when the stream has ended: an event without terminator, or nothing."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._line_feed_may_follow = False
        if self._oversized or len(rest.rstrip(b"\r\n")) > self.max_event_bytes:
            self._oversized = False
            return [Piece(rest, PieceKind.LAST_FRAGMENT)]
        pieces = [Piece(rest, PieceKind.EVENT)] if rest else []
        return self._without_mark(pieces) if self._at_start and pieces else pieces

    def _without_mark(self, pieces: list[Piece]) -> list[Piece]:
        """Take the byte order mark off the first piece of the stream."""
        self._at_start = False
        first = pieces[0]
        if first.kind is not PieceKind.EVENT or not first.raw.startswith(_BYTE_ORDER_MARK):
            return pieces
        rest = first.raw[len(_BYTE_ORDER_MARK) :]
        mark = Piece(_BYTE_ORDER_MARK, PieceKind.BYTE_ORDER_MARK)
        return [mark, *([Piece(rest, PieceKind.EVENT)] if rest else []), *pieces[1:]]

    def _complete_pending(self, chunk: bytes, start: int, pieces: list[Piece]) -> int:
        """Add to the pending event what of *chunk* belongs to it; return where the next event begins."""
        pending = self._pending
        before = len(pending)
        # Enough of the chunk to see a terminator that began in the pending bytes; the rest is searched in place.
        overlap = chunk[start : start + 2 * _LONGEST_LINE_END]
        resume = max(0, before - _LONGEST_LINE_END)
        seam = bytes(pending[resume:]) + overlap
        end = _EVENT_END.search(seam)
        if end is not None and end.start() < before - resume:
            content, stop = resume + end.start(), start + end.end() - (before - resume)
        else:
            end = _EVENT_END.search(chunk, start)
            if end is None:
                pending += chunk[start:]
                return len(chunk)
            content, stop = before + end.start() - start, end.end()
        pending += chunk[start:stop]
        pieces.append(self._close(bytes(pending), content))
        pending.clear()
        self._line_feed_may_follow = stop == len(chunk) and chunk.endswith(b"\r")
        return stop

    def _cut(self, chunk: bytes, start: int, pieces: list[Piece]) -> None:
        """Cut *chunk* from *start*, where an event begins; what is left becomes pending."""
        for end in _EVENT_END.finditer(chunk, start):
            pieces.append(self._close(chunk[start : end.end()], end.start() - start))
            start = end.end()
            self._line_feed_may_follow = start == len(chunk) and chunk.endswith(b"\r")
        self._pending += chunk[start:]

    def _close(self, raw: bytes, content_bytes: int) -> Piece:
        oversized = self._oversized or content_bytes > self.max_event_bytes
        self._oversized = False
        return Piece(raw, PieceKind.LAST_FRAGMENT if oversized else PieceKind.EVENT)


def event_data(raw: bytes) -> bytes:
    """Return the data of one event: its ``data`` lines joined by line feeds; empty if it has none."""
    values = []
    for line in raw.splitlines():
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values)


def is_event_stream(content_type: str) -> bool:
    """Return whether *content_type* announces an event stream, parameters and letter case aside."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"
