"""Takes out of an answer's stream the usage event that the client did not ask for.

Where the picker added ``stream_options.include_usage`` to a request, the model server ends its stream with one more
event: no choices, only usage. Clients that index ``choices[0]`` would trip over it. In our own Envoy a filter does
the same.
"""

import jiter

from endpoint_picker.requestcontrol.sse import DEFAULT_MAX_EVENT_BYTES, Piece, PieceKind, SseFramer, event_data


class StreamUsageFilter:
    """Pass a server-sent event stream on, byte for byte, without events that hold usage and an empty list of choices.

    Each event is passed on when it is complete. An event above the limit is passed on as it comes. Any split of the
    same bytes gives the same bytes.

    Attributes:
        removed_events: Events taken out.
    """

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._framer = SseFramer(max_event_bytes=max_event_bytes)
        self._last_removed = False
        self.removed_events = 0

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be passed on after *chunk*; may be empty."""
        return self._pass(self._framer.feed(chunk))

    def finish(self) -> bytes:
        """Return what is left when the stream has ended; an event without terminator counts as one."""
        return self._pass(self._framer.finish())

    def _pass(self, pieces: list[Piece]) -> bytes:
        passed = []
        for piece in pieces:
            if piece.kind is not PieceKind.LATE_LINE_FEED:
                self._last_removed = piece.kind is PieceKind.EVENT and _is_usage_event(piece.raw)
                self.removed_events += self._last_removed
            if not self._last_removed:
                passed.append(piece.raw)
        return b"".join(passed)


def _is_usage_event(raw: bytes) -> bool:
    if b'"usage"' not in raw or b'"choices"' not in raw:
        return False
    try:
        event = jiter.from_json(event_data(raw))
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("choices") == [] and isinstance(event.get("usage"), dict)
