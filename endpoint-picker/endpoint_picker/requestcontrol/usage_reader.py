"""Token usage read from an answer's bytes as they pass, for data planes that cannot read it themselves.

Dialects are told apart by their fields:

    OpenAI chat, completions, embeddings  usage.{prompt_tokens, completion_tokens, total_tokens, *_details}
    OpenAI responses                      usage or response.usage.{input_tokens, output_tokens, total_tokens, *_details}
    Anthropic messages                    usage or message.usage.{input_tokens, output_tokens, cache_*_input_tokens}

Anthropic counts cached and cache-written tokens beside the input tokens, OpenAI within the prompt tokens; ours are
within. Nothing here raises because of an answer: what cannot be read is unknown, and counted.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import jiter

from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.sse import (
    DEFAULT_MAX_EVENT_BYTES,
    Piece,
    PieceKind,
    SseFramer,
    event_data,
    is_event_stream,
)

DEFAULT_MAX_TAIL_BYTES: Final = 1 << 20

_USAGE_KEY: Final = b'"usage"'
_ESCAPED: Final = b"\\"
_MAX_CANDIDATES: Final = 16
_MAX_TOKENS: Final = 1 << 53
_JSON_TYPE: Final = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)


class UsageReader(Protocol):
    """Reads the usage of one answer; fed in order, finished once."""

    @property
    def usage(self) -> Usage:
        """What was read so far; all None if nothing was."""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body."""

    def finish(self) -> Usage:
        """Return what was read; all None if nothing was."""


class SseUsageReader:
    """Usage of a server-sent event stream.

    The latest statement of each count holds, but a zero never replaces a count: some servers state the prompt at the
    start and zero at the end, others the other way round.

    Attributes:
        lost_events: Events that were too large to be read, or mentioned usage and were no JSON.
    """

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._framer = SseFramer(max_event_bytes=max_event_bytes)
        self._counts = _Counts()
        self.lost_events = 0

    @property
    def usage(self) -> Usage:
        """What was read so far."""
        return self._counts.usage()

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the stream."""
        for piece in self._framer.feed(chunk):
            self._read(piece)

    def finish(self) -> Usage:
        """Read an event that lacks its terminator, then return the usage."""
        for piece in self._framer.finish():
            self._read(piece)
        return self._counts.usage()

    def _read(self, piece: Piece) -> None:
        if piece.kind is PieceKind.LAST_FRAGMENT:
            self.lost_events += 1
        if piece.kind is not PieceKind.EVENT or _USAGE_KEY not in piece.raw:
            return
        data = event_data(piece.raw)
        if _USAGE_KEY not in data:
            return
        event = _parse_object(data)
        if event is None:
            self.lost_events += 1
            return
        for holder in (event, event.get("response"), event.get("message")):
            if isinstance(holder, dict):
                self._counts.add(holder.get("usage"))


class JsonUsageReader:
    """Usage of one JSON body, from its top-level ``usage``.

    Only the end of the body is kept, where every known model server states its usage, and only the part from there on
    is parsed: a key is at the top level if the rest of the body closes exactly one object.

    Attributes:
        truncated: Whether the body was larger than what is kept.
    """

    def __init__(self, *, max_tail_bytes: int = DEFAULT_MAX_TAIL_BYTES) -> None:
        if max_tail_bytes < 1:
            msg = f"max_tail_bytes must be at least 1, got {max_tail_bytes}"
            raise ValueError(msg)
        self._max_tail_bytes = max_tail_bytes
        self._tail = bytearray()
        self.truncated = False

    @property
    def usage(self) -> Usage:
        """Nothing: only the end of the body tells whether a key is at its top level."""
        return Usage()

    def feed(self, chunk: bytes) -> None:
        """Keep the next bytes of the body."""
        self._tail += chunk
        # Twice the size is let stand, so that bytes are moved rarely.
        if len(self._tail) > 2 * self._max_tail_bytes:
            self._trim()

    def finish(self) -> Usage:
        """Return the usage; the kept bytes are released."""
        self._trim()
        tail = bytes(self._tail)
        self._tail.clear()
        counts = _Counts()
        for start in _usage_positions(tail):
            body = _parse_object(b"{" + tail[start:])
            if body is not None:
                counts.add(body.get("usage"))
                break
        return counts.usage()

    def _trim(self) -> None:
        excess = len(self._tail) - self._max_tail_bytes
        if excess > 0:
            self.truncated = True
            del self._tail[:excess]


def usage_reader_for(content_type: str) -> UsageReader | None:
    """Return a fresh reader for an answer of *content_type*; None for a type that carries no usage."""
    if is_event_stream(content_type):
        return SseUsageReader()
    return JsonUsageReader() if _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip()) else None


class _Counts:
    """What was stated so far, field by field, in the words of the dialects."""

    def __init__(self) -> None:
        self._stated: dict[str, int] = {}

    def add(self, usage: object) -> None:
        """Note the counts of one usage object; anything else is ignored."""
        if not isinstance(usage, dict):
            return
        for field, read in _FIELDS.items():
            count = _token_count(read(usage))
            if count is not None and (count or field not in self._stated):
                self._stated[field] = count

    def usage(self) -> Usage:
        """Return the counts in our words."""
        stated = self._stated
        prompt = stated.get("prompt")
        if prompt is not None:
            prompt += stated.get("cache_read", 0) + stated.get("cache_write", 0)
        completion = stated.get("completion")
        total = stated.get("total")
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=total,
            cached_tokens=stated.get("cached", stated.get("cache_read")),
            reasoning_tokens=stated.get("reasoning"),
        )


def _first(*names: str) -> Callable[[dict[str, object]], object]:
    def read(usage: dict[str, object]) -> object:
        return next((usage[name] for name in names if usage.get(name) is not None), None)

    return read


def _detail(field: str, *holders: str) -> Callable[[dict[str, object]], object]:
    find = _first(*holders)

    def read(usage: dict[str, object]) -> object:
        details = find(usage)
        return details.get(field) if isinstance(details, dict) else None

    return read


_FIELDS: Final[dict[str, Callable[[dict[str, object]], object]]] = {
    "prompt": _first("prompt_tokens", "input_tokens"),
    "completion": _first("completion_tokens", "output_tokens"),
    "total": _first("total_tokens"),
    "cached": _detail("cached_tokens", "prompt_tokens_details", "input_tokens_details"),
    "reasoning": _detail("reasoning_tokens", "completion_tokens_details", "output_tokens_details"),
    "cache_read": _first("cache_read_input_tokens"),
    "cache_write": _first("cache_creation_input_tokens"),
}


def _token_count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_TOKENS else None


def _parse_object(data: bytes) -> dict[str, object] | None:
    try:
        value = jiter.from_json(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _usage_positions(body: bytes) -> Iterator[int]:
    """Yield where the key stands in *body*, last first, so that little is parsed; no more than a few."""
    stop = len(body)
    for _ in range(_MAX_CANDIDATES):
        stop = body.rfind(_USAGE_KEY, 0, stop)
        if stop < 0:
            return
        # A quote behind a backslash begins no key, it stands within a text.
        if not body.endswith(_ESCAPED, 0, stop):
            yield stop
