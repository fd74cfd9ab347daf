"""Bytes of HTTP/2 become calls and answers: any split of them gives the same, and a broken peer ends only itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.localgrpc import frames
from endpoint_picker.localgrpc.connection import Connection
from endpoint_picker.localgrpc.frames import ErrorCode, FrameType, Setting
from endpoint_picker.localgrpc.headers import leaves_table
from endpoint_picker.localgrpc.streams import Answers, Status

HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/s/M"),
    (":authority", "a"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
OPEN = frames.END_HEADERS
LAST = frames.END_HEADERS | frames.END_STREAM


class Echo:
    """Answers each message with itself and the end with the end."""

    def __init__(self, answers: Answers, headers: Mapping[str, str]) -> None:
        self.answers = answers
        self.headers = headers
        self.events: list[bytes | str] = []

    def message(self, data: bytes) -> None:
        self.events.append(data)
        self.answers.send(data)

    def half_closed(self) -> None:
        self.events.append("half closed")
        self.answers.finish()

    def closed(self) -> None:
        self.events.append("closed")


class Peer:
    """The client's side: writes frames, reads what comes."""

    def __init__(self, *, max_message_bytes: int = 1_000_000, opens: Callable[..., Any] = Echo) -> None:
        self.written = b""
        self.closed = False
        self.calls: list[Any] = []
        self.encoder = hpack.Encoder()

        def open_call(answers: Answers, headers: Mapping[str, str]) -> Any:
            self.calls.append(opens(answers, headers))
            return self.calls[-1]

        self.connection = Connection(
            {"/s/M": open_call}, write=self._take, close=self._close, max_message_bytes=max_message_bytes
        )

    def _take(self, data: bytes) -> None:
        self.written += data

    def _close(self) -> None:
        self.closed = True

    def start(self, *settings: tuple[Setting, int]) -> "Peer":
        self.connection.receive(frames.PREFACE + frames.settings_frame(settings))
        self.written = b""
        return self

    def headers(self, number: int, pairs: Sequence[tuple[str, str]] = HEADERS, flags: int = OPEN) -> bytes:
        return frames.frame(FrameType.HEADERS, flags, number, self.encoder.encode(list(pairs)))

    def send(self, *parts: bytes) -> list[tuple[int, int, int, bytes]]:
        """Send bytes; return the frames that come back."""
        self.written = b""
        self.connection.receive(b"".join(parts))
        return self.read()

    def read(self) -> list[tuple[int, int, int, bytes]]:
        found, start = [], 0
        while start < len(self.written):
            length, kind, flags, number = frames.head_of(self.written, start)
            start += frames.HEADER_BYTES + length
            found.append((kind, flags, number, self.written[start - length : start]))
        return found

    def error(self) -> int | None:
        """The code of the GOAWAY that ended the connection."""
        for kind, _, _, payload in self.read():
            if kind == FrameType.GOAWAY:
                return int.from_bytes(payload[4:8], "big")
        return None


def data(number: int, *messages: bytes, flags: int = 0) -> bytes:
    return frames.frame(FrameType.DATA, flags, number, b"".join(frames.message_head(len(m)) + m for m in messages))


def test_a_block_that_changes_no_table_is_decoded_once() -> None:
    peer = Peer().start()
    pairs = [(":method", "POST"), (":scheme", "http"), hpack.NeverIndexedHeaderTuple(":path", "/s/M"), *HEADERS[3:]]
    blocks = [peer.encoder.encode(pairs) for _ in range(3)]
    assert blocks[1] == blocks[2]
    for number, block in zip((1, 3, 5), blocks, strict=True):
        peer.connection.receive(frames.frame(FrameType.HEADERS, LAST, number, block))
    assert [leaves_table(block) for block in blocks] == [False, True, True]
    assert [call.headers for call in peer.calls] == [dict(HEADERS)] * 3
    assert peer.calls[1].headers is peer.calls[2].headers


@given(st.binary(max_size=30))
def test_a_block_said_to_leave_the_table_leaves_it(noise: bytes) -> None:
    decoder = hpack.Decoder()
    if leaves_table(noise):
        with suppress(hpack.HPACKError, UnicodeDecodeError):
            decoder.decode(noise)
        assert not decoder.header_table.dynamic_entries


def answered(found: list[tuple[int, int, int, bytes]], number: int = 1) -> bytes:
    return b"".join(payload for kind, _, stream, payload in found if kind == FrameType.DATA and stream == number)


def status_of(found: list[tuple[int, int, int, bytes]]) -> dict[str, str]:
    """Trailers of the answer."""
    decoder = hpack.Decoder()
    blocks = [dict(decoder.decode(p)) for kind, _, _, p in found if kind == FrameType.HEADERS]
    return {str(k): str(v) for k, v in blocks[-1].items()}


def test_a_call_from_begin_to_end() -> None:
    peer = Peer().start()
    found = peer.send(peer.headers(1), data(1, b"hello"), data(1, flags=frames.END_STREAM))
    assert [kind for kind, *_ in found] == [FrameType.HEADERS, FrameType.DATA, FrameType.HEADERS]
    assert answered(found) == frames.message_head(5) + b"hello"
    assert status_of(found) == {"grpc-status": "0"}
    assert found[-1][1] & frames.END_STREAM
    assert peer.calls[0].events == [b"hello", "half closed", "closed"]
    assert peer.calls[0].headers[":path"] == "/s/M"
    assert peer.connection.streams == 0


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=10),
    st.integers(min_value=1, max_value=30),
)
def test_any_split_gives_the_same_messages(messages: list[bytes], cuts: list[int], frame_bytes: int) -> None:
    peer = Peer().start()
    body = b"".join(frames.message_head(len(m)) + m for m in messages)
    parts = [body[i : i + frame_bytes] for i in range(0, len(body), frame_bytes)]
    stream = peer.headers(1) + b"".join(frames.frame(FrameType.DATA, 0, 1, part) for part in parts)
    stream += frames.frame(FrameType.DATA, frames.END_STREAM, 1)
    position = 0
    while position < len(stream):
        cut = cuts[position % len(cuts)]
        peer.connection.receive(stream[position : position + cut])
        position += cut
    assert peer.calls[0].events == [*messages, "half closed", "closed"]
    assert answered(peer.read()) == body


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.text("xyz", max_size=3)), min_size=1, max_size=30))
def test_headers_are_read_right_whatever_the_table_remembers(extras: list[tuple[str, str]]) -> None:
    """The same block is decoded once; anything that changes the table ends that."""
    peer = Peer().start()
    for index, (name, value) in enumerate(extras):
        for repeat in range(2):
            number = 4 * index + 2 * repeat + 1
            peer.connection.receive(peer.headers(number, (*HEADERS, (f"x-{name}", value)), LAST))
            assert peer.calls[-1].headers[f"x-{name}"] == value
            assert set(peer.calls[-1].headers) == {key for key, _ in HEADERS} | {f"x-{name}"}


@given(st.integers(min_value=0, max_value=300), st.integers(min_value=0, max_value=100))
def test_an_answer_waits_for_room(size: int, window: int) -> None:
    peer = Peer().start((Setting.INITIAL_WINDOW_SIZE, window))
    message = b"m" * size
    whole = frames.message_head(size) + message
    found = peer.send(peer.headers(1), data(1, message, flags=frames.END_STREAM))
    assert answered(found) == whole[:window]
    finished = len(whole) <= window
    assert (peer.calls[0].events[-1] == "closed") == finished
    if not finished:
        found = peer.send(frames.number_frame(FrameType.WINDOW_UPDATE, 1, 1000))
        assert answered(found) == whole[window:]
        assert found[-1][1] == LAST
    assert peer.connection.streams == 0


def test_a_large_answer_is_cut_into_frames_and_obeys_the_window_of_the_connection() -> None:
    peer = Peer().start((Setting.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW))
    message = bytes(range(256)) * 400
    found = peer.send(peer.headers(1), *(frames.frame(FrameType.DATA, 0, 1, part) for part in pieces(message)))
    sizes = [len(payload) for kind, _, _, payload in found if kind == FrameType.DATA]
    assert max(sizes) <= frames.MAX_FRAME_BYTES
    assert sum(sizes) == frames.DEFAULT_WINDOW
    rest = peer.send(frames.number_frame(FrameType.WINDOW_UPDATE, 0, 1_000_000))
    assert answered(found) + answered(rest) == frames.message_head(len(message)) + message


def pieces(message: bytes) -> list[bytes]:
    body = frames.message_head(len(message)) + message
    return [body[i : i + frames.MAX_FRAME_BYTES] for i in range(0, len(body), frames.MAX_FRAME_BYTES)]


def test_a_smaller_window_may_go_below_zero() -> None:
    peer = Peer().start((Setting.INITIAL_WINDOW_SIZE, 20))
    peer.send(peer.headers(1), data(1, b"x" * 30))
    assert answered(peer.send(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 10)]))) == b""
    assert answered(peer.send(frames.number_frame(FrameType.WINDOW_UPDATE, 1, 10))) == b""
    assert answered(peer.send(frames.number_frame(FrameType.WINDOW_UPDATE, 1, 5))) == b"xxxxx"


def test_padding_priority_and_continuations_are_read() -> None:
    peer = Peer().start()
    block = peer.encoder.encode(list(HEADERS))
    head = frames.frame(FrameType.HEADERS, frames.PADDED | frames.PRIORITY, 1, b"\x02" + bytes(5) + block[:7] + b"..")
    rest = frames.frame(FrameType.CONTINUATION, 0, 1, block[7:9])
    last = frames.frame(FrameType.CONTINUATION, frames.END_HEADERS, 1, block[9:])
    padded = frames.frame(FrameType.DATA, frames.PADDED, 1, b"\x03" + frames.message_head(2) + b"hi" + b"...")
    assert answered(peer.send(head, rest, last, padded)) == frames.message_head(2) + b"hi"


def test_pings_and_settings_are_acknowledged() -> None:
    peer = Peer().start()
    found = peer.send(frames.frame(FrameType.PING, 0, 0, b"12345678"), frames.settings_frame([]))
    assert found == [(FrameType.PING, frames.ACK, 0, b"12345678"), (FrameType.SETTINGS, frames.ACK, 0, b"")]
    assert peer.send(frames.frame(FrameType.PING, frames.ACK, 0, b"12345678")) == []


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        pytest.param({":path": "/s/Other"}, Status.UNIMPLEMENTED, id="unknown-method"),
        pytest.param({":method": "GET"}, Status.UNKNOWN, id="get"),
        pytest.param({"content-type": "text/plain"}, Status.UNKNOWN, id="no-grpc"),
    ],
)
def test_what_is_not_served_is_refused_at_once(pairs: dict[str, str], status: Status) -> None:
    peer = Peer().start()
    found = peer.send(peer.headers(1, tuple({**dict(HEADERS), **pairs}.items())), data(1, b"x"))
    assert [(kind, flags) for kind, flags, *_ in found] == [(FrameType.HEADERS, LAST)]
    assert status_of(found)["grpc-status"] == str(status.value)
    assert peer.connection.streams == 0


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(HEADERS[1:], id="no-method"),
        pytest.param((*HEADERS, (":path", "/s/M")), id="pseudo-header-behind-others"),
        pytest.param((HEADERS[0], *HEADERS), id="twice"),
        pytest.param((*HEADERS, ("connection", "close")), id="of-the-connection"),
        pytest.param((*HEADERS, ("X-Upper", "1")), id="upper-case"),
        pytest.param((*HEADERS[:-1], ("te", "gzip")), id="te"),
        pytest.param(((":unknown", "x"), *HEADERS), id="unknown-pseudo-header"),
    ],
)
def test_malformed_headers_reset_the_stream_only(pairs: Sequence[tuple[str, str]]) -> None:
    peer = Peer().start()
    assert peer.send(peer.headers(1, pairs)) == [
        (FrameType.RST_STREAM, 0, 1, ErrorCode.PROTOCOL_ERROR.to_bytes(4, "big"))
    ]
    assert answered(peer.send(peer.headers(3), data(3, b"x")), 3) == frames.message_head(1) + b"x"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"\x01\x00\x00\x00\x01x", Status.UNIMPLEMENTED, id="compressed"),
        pytest.param(b"\x00\x00\x00\x00\x65", Status.RESOURCE_EXHAUSTED, id="too-large"),
        pytest.param(b"\x00\x00\x00\x00\x05ab", Status.INTERNAL, id="unfinished"),
    ],
)
def test_messages_that_cannot_be_taken_end_the_stream_with_a_status(body: bytes, status: Status) -> None:
    peer = Peer(max_message_bytes=100).start()
    found = peer.send(peer.headers(1), frames.frame(FrameType.DATA, frames.END_STREAM, 1, body))
    assert status_of(found)["grpc-status"] == str(status.value)
    assert peer.calls[0].events == ["closed"]


def test_a_reset_ends_the_call_once_and_late_frames_are_ignored() -> None:
    peer = Peer().start()
    peer.send(peer.headers(1), data(1, b"a"), frames.number_frame(FrameType.RST_STREAM, 1, 8))
    assert peer.calls[0].events == [b"a", "closed"]
    assert peer.send(data(1, b"late"), frames.number_frame(FrameType.WINDOW_UPDATE, 1, 5)) == []
    peer.calls[0].answers.send(b"too late")
    peer.calls[0].answers.finish()
    assert peer.read() == []
    assert peer.calls[0].events == [b"a", "closed"]


def test_the_end_of_the_connection_ends_every_call_once() -> None:
    peer = Peer().start()
    peer.send(peer.headers(1), peer.headers(3))
    peer.connection.lose()
    peer.connection.lose()
    assert [call.events for call in peer.calls] == [["closed"], ["closed"]]


def test_new_streams_are_refused_while_draining_and_old_ones_go_on() -> None:
    peer = Peer().start()
    peer.send(peer.headers(1))
    peer.connection.go_away()
    found = peer.send(peer.headers(3), data(1, b"x", flags=frames.END_STREAM))
    assert (FrameType.RST_STREAM, 0, 3, ErrorCode.REFUSED_STREAM.to_bytes(4, "big")) in found
    assert answered(found) == frames.message_head(1) + b"x"


def test_an_answer_that_comes_later_is_written_at_once() -> None:
    peer = Peer(opens=Silent).start()
    assert peer.send(peer.headers(1), data(1, b"x")) == []
    peer.calls[0].answers.send(b"later")
    assert answered(peer.read()) == frames.message_head(5) + b"later"


class Silent(Echo):
    """Answers nothing by itself."""

    def message(self, data: bytes) -> None:
        self.events.append(data)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frames.frame(FrameType.DATA, 0, 1, b""), ErrorCode.PROTOCOL_ERROR, id="data-of-no-stream"),
        pytest.param(frames.frame(FrameType.DATA, 0, 0, b""), ErrorCode.PROTOCOL_ERROR, id="data-of-the-connection"),
        pytest.param(frames.frame(FrameType.HEADERS, OPEN, 2, b""), ErrorCode.PROTOCOL_ERROR, id="even-stream"),
        pytest.param(
            frames.frame(FrameType.HEADERS, OPEN, 1, b"\xff\xff"), ErrorCode.COMPRESSION_ERROR, id="bad-block"
        ),
        pytest.param(frames.frame(FrameType.CONTINUATION, OPEN, 1), ErrorCode.PROTOCOL_ERROR, id="continues-nothing"),
        pytest.param(frames.frame(FrameType.PUSH_PROMISE, 0, 1), ErrorCode.PROTOCOL_ERROR, id="push"),
        pytest.param(frames.frame(FrameType.PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR, id="short-ping"),
        pytest.param(frames.frame(FrameType.SETTINGS, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR, id="short-settings"),
        pytest.param(frames.frame(FrameType.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR, id="settings-of-a-stream"),
        pytest.param(
            frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 2**31)]),
            ErrorCode.FLOW_CONTROL_ERROR,
            id="huge-window",
        ),
        pytest.param(frames.settings_frame([(Setting.MAX_FRAME_SIZE, 1)]), ErrorCode.PROTOCOL_ERROR, id="tiny-frames"),
        pytest.param(
            frames.number_frame(FrameType.WINDOW_UPDATE, 0, 0), ErrorCode.PROTOCOL_ERROR, id="window-does-not-grow"
        ),
        pytest.param(
            frames.number_frame(FrameType.WINDOW_UPDATE, 0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR, id="overflow"
        ),
        pytest.param(frames.number_frame(FrameType.RST_STREAM, 7, 0), ErrorCode.PROTOCOL_ERROR, id="reset-of-nothing"),
        pytest.param(b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", ErrorCode.FRAME_SIZE_ERROR, id="frame-too-large"),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_and_left(sent: bytes, code: ErrorCode) -> None:
    peer = Peer().start()
    peer.send(sent)
    assert (peer.error(), peer.closed) == (code, True)


def test_no_preface_no_service() -> None:
    peer = Peer()
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    assert (peer.error(), peer.closed) == (ErrorCode.PROTOCOL_ERROR, True)


@given(st.binary(max_size=200))
def test_noise_never_raises(noise: bytes) -> None:
    peer = Peer().start()
    peer.send(peer.headers(1), noise)
    peer.connection.lose()
    assert peer.calls[0].events[-1] == "closed"
