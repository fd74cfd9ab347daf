"""An event stream is cut after each blank line, whatever the line ends, and no split of the bytes changes an event."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.requestcontrol.sse import Piece, PieceKind, SseFramer, event_data

STREAMS = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b"d", b": note"]), max_size=24).map(b"".join)
LIMITS = st.integers(min_value=1, max_value=12)


def pieces_of(chunks: list[bytes], limit: int = 1 << 20) -> list[Piece]:
    framer = SseFramer(max_event_bytes=limit)
    return [piece for chunk in chunks for piece in framer.feed(chunk)] + framer.finish()


def events_of(pieces: list[Piece]) -> list[tuple[bytes, bool]]:
    """Each event as a whole and whether it was within the limit, late line feeds put back."""
    events: list[tuple[bytes, bool]] = []
    fragments = b""
    for raw, kind in pieces:
        match kind:
            case PieceKind.EVENT:
                events.append((raw, True))
            case PieceKind.FRAGMENT:
                fragments += raw
            case PieceKind.LAST_FRAGMENT:
                events.append((fragments + raw, False))
                fragments = b""
            case PieceKind.LATE_LINE_FEED:
                whole, within = events.pop()
                events.append((whole + raw, within))
    assert not fragments
    return events


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"], id="lf"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"], id="crlf"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"data: a\r\r", b"data: b\r\r"], id="cr"),
        pytest.param(b"data: a\n\r\ndata: b\r\r\n", [b"data: a\n\r\n", b"data: b\r\r\n"], id="mixed"),
        pytest.param(b"data: a\r\ndata: b\r\n\r\n", [b"data: a\r\ndata: b\r\n\r\n"], id="one-crlf-is-one-line-end"),
        pytest.param(b"data: a\n\ndata: b", [b"data: a\n\n", b"data: b"], id="unterminated-end"),
        pytest.param(b"\ndata: a\n\n", [b"\ndata: a\n\n"], id="leading-blank-line"),
        pytest.param(b"", [], id="empty"),
    ],
)
def test_events(stream: bytes, expected: list[bytes]) -> None:
    assert [raw for raw, _ in events_of(pieces_of([stream]))] == expected
    assert [raw for raw, _ in events_of(pieces_of([bytes([byte]) for byte in stream]))] == expected


def test_an_event_that_ends_with_cr_does_not_wait_for_its_line_feed() -> None:
    framer = SseFramer()
    assert framer.feed(b"data: a\r\n\r") == [Piece(b"data: a\r\n\r", PieceKind.EVENT)]
    assert framer.feed(b"\ndata: b") == [Piece(b"\n", PieceKind.LATE_LINE_FEED)]
    assert framer.finish() == [Piece(b"data: b", PieceKind.EVENT)]


def test_memory_is_bounded_by_the_limit() -> None:
    framer = SseFramer(max_event_bytes=10)
    passed = b"".join(piece.raw for _ in range(100) for piece in framer.feed(b"abc"))
    assert 300 - len(passed) <= 12
    assert [piece.kind for piece in framer.feed(b"\n\n")][-1] is PieceKind.LAST_FRAGMENT
    assert framer.feed(b"data: b\n\n") == [Piece(b"data: b\n\n", PieceKind.EVENT)]


def test_the_terminator_does_not_count_towards_the_limit() -> None:
    assert pieces_of([b"0123456789\r\n\r\n"], 10) == [Piece(b"0123456789\r\n\r\n", PieceKind.EVENT)]
    assert pieces_of([b"0123456789a\n\n"], 10) == [Piece(b"0123456789a\n\n", PieceKind.LAST_FRAGMENT)]


@given(STREAMS, LIMITS)
def test_events_are_those_of_the_definition(stream: bytes, limit: int) -> None:
    # The definition, applied to the whole stream: normalise line ends, an event ends with a blank line.
    normal = re.sub(rb"\r\n|\r", b"\n", stream)
    expected = [match.group() for match in re.finditer(rb"(?s).*?\n\n|.+$", normal)]
    events = events_of(pieces_of([stream], limit))
    assert [re.sub(rb"\r\n|\r", b"\n", raw) for raw, _ in events] == expected


@given(STREAMS, LIMITS, st.lists(st.integers(min_value=0, max_value=200), max_size=12))
def test_no_split_changes_an_event(stream: bytes, limit: int, cuts: list[int]) -> None:
    pieces = pieces_of(split_at(stream, cuts), limit)
    assert b"".join(piece.raw for piece in pieces) == stream
    assert events_of(pieces) == events_of(pieces_of([stream], limit))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"data: a\n\n", b"a", id="one-line"),
        pytest.param(b"data:a\n\n", b"a", id="no-space"),
        pytest.param(b"data:  a\n\n", b" a", id="only-one-space-is-removed"),
        pytest.param(b"data: a\r\ndata: b\r\n\r\n", b"a\nb", id="lines-are-joined"),
        pytest.param(b": data: a\nevent: x\nid: 1\ndatax: b\n\n", b"", id="other-fields-and-comments"),
        pytest.param(b"data\n\n", b"", id="field-without-colon"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", b"", id="byte-order-mark-is-part-of-the-name"),
    ],
)
def test_event_data(raw: bytes, expected: bytes) -> None:
    assert event_data(raw) == expected


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("chunk_bytes", [1, 4, 1000])
@pytest.mark.parametrize("rest", [b"data: a\n\n" + MARK + b"data: b\n\n", b"data: a", b""])
def test_a_byte_order_mark_is_one_at_the_start_of_the_stream_only(rest: bytes, chunk_bytes: int) -> None:
    stream = MARK + rest
    pieces = pieces_of([stream[at : at + chunk_bytes] for at in range(0, len(stream), chunk_bytes)])
    assert pieces[0] == Piece(MARK, PieceKind.BYTE_ORDER_MARK)
    assert pieces[1:] == pieces_of([rest])


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SseFramer(max_event_bytes=0)
