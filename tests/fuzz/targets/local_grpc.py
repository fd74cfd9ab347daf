"""The local gRPC server: no bytes raise, no split changes what calls see, what is sent is HTTP/2 within its windows."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import hpack

from endpoint_picker.localgrpc import frames
from endpoint_picker.localgrpc.connection import Connection
from endpoint_picker.localgrpc.frames import FrameType
from endpoint_picker.localgrpc.streams import Answers, Status
from fuzz.target import Draws, Target, bounded, cuts

PATH = "/service/Method"
MAX_MESSAGE_BYTES = (1000, 0, 20)
_MOST_OPERATIONS = 120
_POST = (":method", "POST"), (":scheme", "http")
_GRPC = ("content-type", "application/grpc")
HEADERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (*_POST, (":path", PATH), _GRPC, ("te", "trailers")),
    (*_POST, (":path", PATH), (":authority", "a"), ("content-type", "application/grpc+proto"), ("x", "y" * 200)),
    (*_POST, (":path", "/other"), _GRPC),
    ((":method", "GET"), (":scheme", "http"), (":path", PATH)),
    (*_POST, (":path", PATH), _GRPC, (":path", "/other"), ("\xff", "é")),
    (*_POST, (":path", PATH), _GRPC, ("x", "1"), ("x", "2")),
    ((":method", "POST"), (":path", PATH), _GRPC),
    (("grpc-status", "0"),),
)
NUMBERS = (0, 1, 5, 65_535, 2**31 - 1, 2**32 - 1, 100, 16_384)


class _Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def _frames(data: bytes) -> Iterator[_Frame]:
    """Yield the whole frames of *data*, read without the code under test."""
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        if len(data) < 9 + length:
            return
        yield _Frame(data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7FFFFFFF, data[9 : 9 + length])
        data = data[9 + length :]


def _without_padding(frame: _Frame) -> bytes:
    padded = frame.flags & 8 and frame.kind in (0, 1) and frame.payload
    payload = frame.payload[1 : len(frame.payload) - frame.payload[0]] if padded else frame.payload
    return payload[5:] if frame.kind == 1 and frame.flags & 0x20 else payload


class _Call:
    """Serves one stream by a policy: answers each message, ends early, or at the end."""

    def __init__(self, answers: Answers, headers: Mapping[str, str], policy: int) -> None:
        self.answers = answers
        self.headers = dict(headers)
        self.policy = policy
        self.messages: list[bytes] = []
        self.over = False
        self.half = False
        self.answered = False

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        self.answered = True
        self.answers.finish(status, message)

    def message(self, data: bytes) -> None:
        assert not self.over, "a message after the end"
        assert not self.half, "a message after the last"
        assert not self.answered, "a message after the answer"
        self.messages.append(data)
        if self.policy & 1:
            self.answers.send(data * (1 + (self.policy >> 3) * 40))
        if self.policy & 2:
            self.finish()

    def half_closed(self) -> None:
        assert not self.half
        assert not self.over
        self.half = True
        if self.policy & 4:
            self.finish(Status.INTERNAL, "é\n" * 60)

    def closed(self) -> None:
        assert not self.over, "closed twice"
        self.over = True
        self.answers.send(b"too late")
        self.answers.finish()


class _Peer:
    """Plays the peer, and keeps what the connection did."""

    def __init__(self, policy: int, max_message_bytes: int) -> None:
        self.calls: list[_Call] = []
        self.written: list[bytes] = []
        self.closes = 0
        self._policy = policy
        self._max_message_bytes = max_message_bytes
        self.connection = Connection(
            {PATH: self._opened}, write=self._write, close=self._close, max_message_bytes=max_message_bytes
        )

    def _opened(self, answers: Answers, headers: Mapping[str, str]) -> _Call:
        call = _Call(answers, headers, self._policy + len(self.calls))
        self.calls.append(call)
        return call

    def _write(self, data: bytes) -> None:
        assert not self.closes, "written after the end"
        assert data
        self.written.append(data)

    def _close(self) -> None:
        self.closes += 1

    def play(self, segments: list[tuple[list[bytes], int]]) -> None:
        """Receive each segment's pieces, then do the server's action of it."""
        for pieces, action in segments:
            for piece in pieces:
                self._receive(piece)
            if self.closes:
                return
            if action == 255:
                self.connection.go_away()
            elif self.calls:
                call = self.calls[action % len(self.calls)]
                if action & 64:
                    call.finish()
                else:
                    call.answers.send(b"a" * (action * 400))

    def _receive(self, piece: bytes) -> None:
        self.connection.receive(piece)
        held = self.connection
        assert len(held._buffer) <= frames.MAX_FRAME_BYTES + 9
        assert len(held._block) <= 64 * 1024
        assert len(held._blocks) <= 256
        for stream in held._streams.values():
            waiting = sum(map(len, stream._partial))
            assert waiting <= self._max_message_bytes + 5, "more than one message is held"
            assert len(stream._partial) <= waiting, "pieces of nothing are held"

    def end(self) -> None:
        if not self.closes:
            self.connection.lose()
        assert all(call.over for call in self.calls), "a call was not told of the end"
        assert self.connection.streams == 0


def check(data: bytes) -> None:
    """Play one connection, once as it comes and once in pieces."""
    draws = Draws(data)
    policy, max_message, seed = draws.byte(), draws.pick(MAX_MESSAGE_BYTES), draws.number()
    segments = list(_segments(draws))
    received = b"".join(data for data, _ in segments)
    whole, split = _Peer(policy, max_message), _Peer(policy, max_message)
    with bounded(len(received) * 4, seconds=2.0):
        whole.play([([data], action) for data, action in segments])
        split.play([(cuts(data, seed), action) for data, action in segments])
    open_calls = [call for call in whole.calls if not call.over]
    written = b"".join(whole.written)
    assert b"".join(split.written) == written
    assert [(c.headers, c.messages, c.half) for c in split.calls] == [
        (c.headers, c.messages, c.half) for c in whole.calls
    ]
    whole.end()
    split.end()
    _check_written(written, received)
    if not whole.closes and received.startswith(frames.PREFACE):
        _check_calls(whole.calls, open_calls, received, max_message)


def _check_written(written: bytes, received: bytes) -> None:
    """What was sent is whole frames, in windows, headers before data, nothing after the end of a stream."""
    sent = list(_frames(written))
    assert sum(len(frame.payload) + 9 for frame in sent) == len(written)
    assert all(len(frame.payload) <= 1 << 24 for frame in sent)
    given = list(_frames(received[len(frames.PREFACE) :]))
    updates = [int.from_bytes(f.payload, "big") & 0x7FFFFFFF for f in given if f.kind == 8 and not f.stream]
    assert sum(len(frame.payload) for frame in sent if frame.kind == 0) <= 65_535 + sum(updates)
    ended: set[int] = set()
    opened: set[int] = set()
    decoder = hpack.Decoder()
    for frame in sent:
        assert frame.stream not in ended or not frame.stream or frame.kind == FrameType.WINDOW_UPDATE, "after the end"
        if frame.kind == FrameType.HEADERS:
            decoder.decode(frame.payload)
            opened.add(frame.stream)
        elif frame.kind == FrameType.DATA:
            assert frame.stream in opened
        if frame.kind == FrameType.RST_STREAM or (frame.kind in (0, 1) and frame.flags & frames.END_STREAM):
            ended.add(frame.stream)


def _check_calls(calls: list[_Call], open_calls: list[_Call], received: bytes, max_message: int) -> None:
    """Compare with the frames as another reader takes them: the headers of calls, and their messages in order."""
    decoder = hpack.Decoder(max_header_list_size=64 * 1024)
    block = b""
    first: _Frame | None = None
    bodies: dict[int, bytes] = defaultdict(bytes)
    seen: list[tuple[int, list[tuple[str, str]]]] = []
    last = 0
    over: set[int] = set()
    for frame in _frames(received[len(frames.PREFACE) :]):
        if frame.kind in (1, 9):
            first = frame if frame.kind == 1 else first
            block += _without_padding(frame)
            if frame.flags & 4 and first is not None:
                headers = [(str(name), str(value)) for name, value in decoder.decode(block)]
                block = b""
                if first.stream > last:
                    last = first.stream
                    seen.append((first.stream, headers))
                over |= {first.stream} if first.flags & 1 else set()
        elif frame.kind == 0 and frame.stream not in over:
            bodies[frame.stream] += _without_padding(frame)
            over |= {frame.stream} if frame.flags & 1 else set()
    served = [(number, dict(headers)) for number, headers in seen if _opens(headers) and _is_served(dict(headers))]
    assert [call.headers for call in calls] == [headers for _, headers in served[: len(calls)]]
    for call, (number, _) in zip(calls, served, strict=False):
        expected = list(_messages(bodies[number], max_message))
        assert call.messages == expected[: len(call.messages)]
        if call in open_calls and not call.answered:
            assert call.messages == expected


def _opens(headers: list[tuple[str, str]]) -> bool:
    """Tell whether headers may open a stream: RFC 9113 section 8.3.1."""
    pseudo = [name for name, _ in headers if name.startswith(":")]
    rest = [name for name, _ in headers[len(pseudo) :]]
    known = {":method", ":scheme", ":path"}
    return (
        known <= set(pseudo) <= known | {":authority"}
        and len(set(pseudo)) == len(pseudo)
        and all(value for name, value in headers if name in pseudo)
        and all(name and name == name.lower() and name[0] != ":" for name in rest)
        and not {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"} & set(rest)
        and all(value == "trailers" for name, value in headers if name == "te")
    )


def _is_served(headers: dict[str, str]) -> bool:
    grpc = headers.get("content-type", "").startswith("application/grpc")
    return grpc and headers.get(":method") == "POST" and headers.get(":path") == PATH


def _messages(body: bytes, max_message: int) -> Iterator[bytes]:
    while len(body) >= 5:
        length = int.from_bytes(body[1:5], "big")
        if body[0] or length > max_message or len(body) < 5 + length:
            return
        yield body[5 : 5 + length]
        body = body[5 + length :]


def _segments(draws: Draws) -> Iterator[tuple[bytes, int]]:
    """Yield what the peer sends, and what the server does after it."""
    encoder = hpack.Encoder()
    segment = frames.PREFACE if draws.byte() % 16 else draws.take(30)
    stream = -1
    for _ in range(_MOST_OPERATIONS):
        if not draws.left:
            break
        how = draws.byte()
        flags = draws.byte()
        number = draws.pick((stream, stream, stream, stream - 2, 1, 0, 2, stream + 2, 2**31 - 1)) & 0x7FFFFFFF
        match how % 16:
            case 0 | 1 | 2 | 3:
                stream = stream + 2 if how < 240 else stream
                segment += _headers(draws, encoder, flags, stream & 0x7FFFFFFF)
            case 4 | 5 | 6 | 7:
                segment += _data(draws, flags, number)
            case 14 | 15:
                yield segment, flags
                segment = b""
            case _:
                segment += _control(draws, how, flags, number)
    yield segment, 0


def _control(draws: Draws, how: int, flags: int, number: int) -> bytes:
    """Return a frame that is neither headers nor data, or any bytes."""
    match how % 16:
        case 8:
            return _frame(3, 0, number, draws.pick(NUMBERS).to_bytes(4, "big"))
        case 9:
            return _frame(8, 0, number if flags & 1 else 0, draws.pick(NUMBERS).to_bytes(4, "big"))
        case 10:
            setting = (draws.byte() % 8).to_bytes(2, "big") + draws.pick(NUMBERS).to_bytes(4, "big")
            return _frame(4, flags & 1 if how > 240 else 0, 0, setting * (how >> 6))
        case 11:
            return _frame(6, flags & 1, 0, b"12345678")
        case 12:
            return _frame(draws.byte() % 12, flags, number, draws.take(draws.byte()))
        case _:
            return draws.take(draws.byte() % 40)


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


def _headers(draws: Draws, encoder: hpack.Encoder, flags: int, number: int) -> bytes:
    how = draws.byte()
    block = draws.take(how >> 4) if how % 16 == 15 else encoder.encode(HEADERS[how % len(HEADERS)])
    end = flags & 1
    payload = b"\0\0\0\0\0" + block if flags & 0x20 else block
    if flags & 8:
        payload = bytes((3,)) + payload + b"\0\0\0"
    shape = (flags & 0x28) | end
    if flags & 0x40 and not flags & 8:
        half = len(payload) // 2 + (5 if flags & 0x20 else 0)
        return _frame(1, shape, number, payload[:half]) + _frame(9, 4, number, payload[half:])
    return _frame(1, shape | 4, number, payload)


def _data(draws: Draws, flags: int, number: int) -> bytes:
    how = draws.byte()
    content = draws.take(how % 32)
    if flags & 0x10:
        content = bytes(draws.byte() & 3 == 3 for _ in range(1)) + len(content).to_bytes(4, "big") + content
    elif flags & 0x80:
        content = b"\0\0\0\0\x20" + content
    if flags & 8:
        content = bytes((2,)) + content + b"\0\0"
    return _frame(0, flags & 9, number, content)


def generate(rng: random.Random) -> bytes:
    """Return a connection that most often keeps to the protocol."""
    ops = bytes((rng.randrange(256), rng.choice((0, 0, 1, 2)), rng.randrange(256), rng.randrange(256), 1))
    for _ in range(rng.randrange(1, 6)):
        ops += bytes((rng.randrange(4), rng.choice((0, 0, 0x20, 0x40, 1)), 0, rng.choice((0, 0, 0, 1, 2, 3, 4))))
        for _ in range(rng.randrange(5)):
            match rng.randrange(8):
                case 0:
                    ops += bytes((9, rng.randrange(2), 0, rng.randrange(len(NUMBERS))))
                case 1:
                    ops += bytes((14, rng.randrange(256), 0))
                case 2:
                    ops += bytes((64 + 10, 0, 0, rng.randrange(8), rng.randrange(len(NUMBERS))))
                case 3:
                    ops += bytes((8, 0, rng.randrange(4), 0))
                case _:
                    size = rng.randrange(32)
                    flags = rng.choice((0x10, 0x10, 0x10, 0x18, 0x11, 0x80, 0, 1))
                    ops += bytes((4, flags, rng.choice((0, 0, 0, 3)), size)) + rng.randbytes(size) + b"\0"
    return ops


TARGET = Target(
    "local_grpc",
    check,
    generate,
    seeds=tuple(generate(random.Random(seed)) for seed in range(40)),
    tokens=(
        b"\x00\x00\x00\x00", b"\x00\x01\x00\x00", b"\x04\x10\x00\x03abc\x00", b"\x04\x11\x00\x01a\x00",
        b"\x04\x00\x00\x00",
        b"\x08\x00\x00\x00", b"\x09\x00\x00\x03", b"\x09\x01\x00\x06", b"\x4a\x00\x00\x04\x00", b"\x0e\xff\x00",
        b"\x0e\x4f\x00", b"\x0e\x3f\x00", b"\x0c\x00\x00\x09\x05abcde", b"\x0b\x00\x00", b"\x04\x80\x00\x00",
    ),
)  # fmt: skip
