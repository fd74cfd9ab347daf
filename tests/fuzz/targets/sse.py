"""Event streams: any split gives the same events, and they are those of the HTML standard's own algorithm."""

import random
import re
from collections.abc import Iterator

import jiter

from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.sse import Piece, PieceKind, SseFramer, event_data
from endpoint_picker.requestcontrol.stream_usage_filter import StreamUsageFilter
from endpoint_picker.requestcontrol.usage_reader import SseUsageReader
from fuzz import json_text
from fuzz.target import Draws, Target, bounded, cuts, plain

_LINE_END = re.compile(rb"\r\n|\r")
_MARK = b"\xef\xbb\xbf"
LIMITS = (1 << 20, 1 << 20, 1, 16, 100)


def check(data: bytes) -> None:
    """Read one stream; the first bytes give the limit on an event and where the stream is cut."""
    draws = Draws(data)
    limit, seed = draws.pick(LIMITS), draws.number()
    stream = draws.repeated_rest(most=1 << 12)
    split = cuts(stream, seed)
    with bounded(len(stream) * 3):
        whole = _frame([stream], limit)
        pieces = _frame(split, limit)
        read = _read([stream], limit)
        assert _read(split, limit) == read
        passed = _filter([stream], limit)
        assert _filter(split, limit) == passed
    assert b"".join(piece.raw for piece in pieces) == stream
    assert _events(pieces) == _events(whole)
    if limit > len(stream):
        assert all(piece.kind is not PieceKind.FRAGMENT for piece in pieces)
        _check_events(stream, whole)
        assert passed[0] == (_MARK if stream.startswith(_MARK) else b"") + b"".join(
            raw for raw in _raw_events(whole) if not _is_usage(raw)
        )
    for count in (read[0].prompt_tokens, read[0].completion_tokens, read[0].cached_tokens):
        assert count is None or count >= 0


def _frame(chunks: list[bytes], limit: int) -> list[Piece]:
    framer = SseFramer(max_event_bytes=limit)
    pieces: list[Piece] = []
    for chunk in chunks:
        pieces += framer.feed(chunk)
        assert len(framer._pending) <= limit + 2  # what is held is bounded
    pieces += framer.finish()
    assert framer.finish() == []
    return pieces


def _read(chunks: list[bytes], limit: int) -> tuple[Usage, int]:
    reader = SseUsageReader(max_event_bytes=limit)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish(), reader.lost_events


def _filter(chunks: list[bytes], limit: int) -> tuple[bytes, int]:
    stream_filter = StreamUsageFilter(max_event_bytes=limit)
    passed = b"".join([*(stream_filter.feed(chunk) for chunk in chunks), stream_filter.finish()])
    return passed, stream_filter.removed_events


def _events(pieces: list[Piece]) -> list[tuple[bytes, bool]]:
    """Return each event with whether it was above the limit; a late line feed belongs to the event before."""
    events: list[tuple[bytes, bool]] = []
    fragments = b""
    for piece in pieces:
        if piece.kind is PieceKind.LATE_LINE_FEED:
            raw, large = events.pop()
            events.append((raw + piece.raw, large))
        elif piece.kind is PieceKind.FRAGMENT:
            fragments += piece.raw
        elif piece.kind is not PieceKind.BYTE_ORDER_MARK:
            events.append((fragments + piece.raw, piece.kind is PieceKind.LAST_FRAGMENT))
            fragments = b""
    assert not fragments
    return events


def _raw_events(pieces: list[Piece]) -> list[bytes]:
    return [raw for raw, _ in _events(pieces)]


def _check_events(stream: bytes, pieces: list[Piece]) -> None:
    """Compare the data of all terminated events with the standard's; what has no data is no event there."""
    events = [raw for raw in _raw_events(pieces) if _LINE_END.sub(b"\n", raw).endswith(b"\n\n")]
    ours = [data for data in map(event_data, events) if data]
    assert ours == [data for data in reference_events(stream) if data]


def reference_events(stream: bytes) -> Iterator[bytes]:
    """Yield the data of each event.

    Source: "Parsing an event stream" of the HTML standard, step by step.
    """
    stream = stream.removeprefix(_MARK)
    data = b""
    line = b""
    at = 0
    while at < len(stream):
        byte = stream[at : at + 1]
        at += 1
        if byte not in (b"\r", b"\n"):
            line += byte
            continue
        if byte == b"\r" and stream[at : at + 1] == b"\n":
            at += 1
        if not line:
            if data:
                yield data.removesuffix(b"\n")
            data = b""
        elif b":" in line:
            name, value = line.split(b":", 1)
            value = value.removeprefix(b" ")
            data += value + b"\n" if name == b"data" else b""
        elif line == b"data":
            data += b"\n"
        line = b""


def _is_usage(raw: bytes) -> bool:
    try:
        event = jiter.from_json(event_data(raw))
    except ValueError:
        return False
    if b'"usage"' not in raw or b'"choices"' not in raw:
        return False  # keys spelt with escapes are passed on
    return isinstance(event, dict) and event.get("choices") == [] and isinstance(event.get("usage"), dict)


_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\r\r\n", b"\n", b"\r", b"\n\r\n", b"\n\n\n")


def generate(rng: random.Random) -> bytes:
    stream = rng.choice((b"", b"", b"\xef\xbb\xbf", b"\n"))
    for _ in range(rng.randrange(1, 8)):
        field = rng.choice(
            (b"data: ", b"data: ", b"data:", b"data", b":", b"id: ", b"event: x\ndata: ", b"\xef\xbb\xbfdata:")
        )
        usage = {"prompt_tokens": rng.randrange(9), "completion_tokens": json_text.value(rng), "input_tokens": 1}
        event = rng.choice((
            b"[DONE]",
            b"",
            json_text.write({"choices": [], "usage": usage}, rng).encode(),
            json_text.write({"choices": [], "usage": usage}, random.Random(1)).encode(),
            json_text.write({"choices": [{}], "usage": None}, rng).encode(),
            json_text.write({rng.choice(("response", "message")): {"usage": usage}}, rng).encode(),
            json_text.write(json_text.value(rng), rng).encode(),
            rng.randbytes(12),
        ))  # fmt: skip
        stream += field + event + rng.choice(_ENDS)
    return bytes(rng.randrange(256) for _ in range(6)) + stream


TARGET = Target(
    "sse",
    check,
    generate,
    seeds=(
        plain(b'data: {"choices":[{"delta":{}}]}\n\ndata: {"choices":[],"usage":{"prompt_tokens":3}}\n\n', 0, 0, 1),
        plain(b'event: message_start\r\ndata: {"message":{"usage":{"input_tokens":5}}}\r\n\r\n', 0, 0, 4),
        plain(b"\xef\xbb\xbfdata: a\rdata\r\rid: 1\n\n: c\n\ndata:b\n", 0, 1, 0),
        plain(b"data: 0123456789012345678901234567890\n\ndata: x\n\n", 3, 3, 3),
    ),
    tokens=(
        *_ENDS, b"data:", b"data: ", b"data", b"event:", b"id: 1", b"retry: 5", b":", b"\xef\xbb\xbf", b"[DONE]",
        b'"usage":{', b'"choices":[]', b'{"choices":[],"usage":{}}', b'"prompt_tokens":1', b'"usage":null', b"\x00",
    ),
)  # fmt: skip
