"""One HTTP/2 connection as a state machine without sockets: bytes in, calls on streams, bytes out.

    connection    event                                       next
    PREFACE       the client's preface                        OPEN
    OPEN          `go_away`                                   DRAINING: new streams are refused
    OPEN, DRAINING  a frame that breaks the protocol          CLOSED, after GOAWAY
    any           `lose`                                      CLOSED

    stream        event                                       next
    (none)        HEADERS of a known method                   open: the service is asked for a call
    open          a whole message                             open: the call gets it
    open          END_STREAM                                  half closed: the call is told
    open, half closed  `finish`, RST_STREAM, end of the connection  gone: the call is told, once

The peer is the Envoy of the same pod, behind a socket file that only its user can open. So windows are as large as the
protocol allows, and what is held is bounded by whoever serves the messages. Everything is bounded and checked
nevertheless: a defect of the peer must not become one of ours.

Source: RFC 9113, RFC 7541 (headers are read by the library *hpack*), gRPC over HTTP/2.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

import hpack

from endpoint_picker.localgrpc import frames
from endpoint_picker.localgrpc.frames import ConnectionFailed, ErrorCode, FrameType, Setting
from endpoint_picker.localgrpc.headers import are_well_formed, leaves_table
from endpoint_picker.localgrpc.streams import Open, Status, Stream

_MAX_HEADER_BYTES: Final = 64 * 1024
_MAX_STREAMS: Final = 100_000
_CACHED_BLOCKS: Final = 256
_REFILL_BYTES: Final = 256 * 1024 * 1024


class State(Enum):
    """Where the connection stands."""

    PREFACE = auto()
    OPEN = auto()
    DRAINING = auto()
    CLOSED = auto()


class Connection:
    """Serves streams over one connection.

    Args:
        services: What opens a call, by path.
        write: Takes bytes for the peer.
        close: Ends the transport when all that was written is sent.
        max_message_bytes: Bound on one message.
    """

    def __init__(
        self,
        services: Mapping[str, Open],
        *,
        write: Callable[[bytes], None],
        close: Callable[[], None],
        max_message_bytes: int,
    ) -> None:
        self._services = services
        self._write = write
        self._close = close
        self.max_message_bytes = max_message_bytes
        self._state = State.PREFACE
        self._buffer = b""
        self._out: list[bytes] = []
        self._receiving = False
        self._streams: dict[int, Stream] = {}
        self._blocked: dict[int, Stream] = {}
        self._last_stream = 0
        self._decoder = hpack.Decoder(max_header_list_size=_MAX_HEADER_BYTES)
        self._blocks: dict[bytes, Mapping[str, str] | None] = {}
        self._block = b""
        self._block_of: tuple[int, int] | None = None
        self._received = 0
        self.window = frames.DEFAULT_WINDOW
        self.max_frame_bytes = frames.MAX_FRAME_BYTES
        self._stream_window = frames.DEFAULT_WINDOW

    @property
    def streams(self) -> int:
        """Streams that are under way."""
        return len(self._streams)

    # -- bytes in and out -------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer; calls are made and answers written before this returns."""
        self._receiving = True
        try:
            self._take(self._buffer + data if self._buffer else data)
        except ConnectionFailed as failure:
            self.send(frames.goaway_frame(self._last_stream, failure.code))
            self.lose()
            self._receiving = False
            self._flush()
            self._close()
        finally:
            self._receiving = False
            self._flush()

    def send(self, data: bytes) -> None:
        """Write *data*: with everything else once the bytes at hand are read, else at once."""
        self._out.append(data)
        if not self._receiving:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            out = self._out
            self._out = []
            self._write(out[0] if len(out) == 1 else b"".join(out))

    def go_away(self) -> None:
        """Take no further streams; those under way go on."""
        if self._state in (State.PREFACE, State.OPEN):
            self._state = State.DRAINING
            self.send(frames.goaway_frame(self._last_stream, ErrorCode.NO_ERROR))

    def lose(self) -> None:
        """End every call: the connection is gone."""
        self._state = State.CLOSED
        self._buffer = b""
        for stream in list(self._streams.values()):
            self.drop(stream)

    def drop(self, stream: Stream) -> None:
        """Forget *stream* and tell its call, once."""
        if self._streams.pop(stream.number, None) is not None:
            self._blocked.pop(stream.number, None)
            stream.end()

    def wait_for_room(self, stream: Stream) -> None:
        """Continue to send *stream* when the peer makes room."""
        self._blocked[stream.number] = stream

    def _take(self, data: bytes) -> None:
        position, end = 0, len(data)
        if self._state is State.PREFACE:
            if not data.startswith(frames.PREFACE[:end]):
                raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            if end < len(frames.PREFACE):
                self._buffer = data
                return
            position = len(frames.PREFACE)
            self._begin()
        while end - position >= frames.HEADER_BYTES and self._state is not State.CLOSED:
            length, kind, flags, number = frames.head_of(data, position)
            if length > frames.MAX_FRAME_BYTES:
                raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = position + frames.HEADER_BYTES
            if end - start < length:
                break
            position = start + length
            self._frame(kind, flags, number, data[start:position])
        self._buffer = data[position:] if self._state is not State.CLOSED else b""

    def _begin(self) -> None:
        self._state = State.OPEN
        self.send(
            frames.settings_frame(
                [(Setting.MAX_CONCURRENT_STREAMS, _MAX_STREAMS), (Setting.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)]
            )
        )
        room = frames.MAX_WINDOW - frames.DEFAULT_WINDOW
        self.send(frames.number_frame(FrameType.WINDOW_UPDATE, 0, room))

    # -- frames -----------------------------------------------------------------------------------------------------

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:  # noqa: C901 - one branch per type
        if self._block_of is not None and kind != FrameType.CONTINUATION:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == FrameType.DATA:
            self._data(flags, number, payload)
        elif kind == FrameType.HEADERS:
            self._headers(flags, number, payload)
        elif kind == FrameType.CONTINUATION:
            self._continuation(flags, number, payload)
        elif kind == FrameType.RST_STREAM:
            self._reset(number, payload)
        elif kind == FrameType.SETTINGS:
            self._settings(flags, number, payload)
        elif kind == FrameType.PING:
            self._ping(flags, number, payload)
        elif kind == FrameType.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == FrameType.PRIORITY:
            _check(number > 0, "PRIORITY of no stream")
            _check(len(payload) == 5, "a PRIORITY frame of another size", ErrorCode.FRAME_SIZE_ERROR)
        elif kind == FrameType.GOAWAY:
            _check(number == 0, "GOAWAY of one stream")
        elif kind == FrameType.PUSH_PROMISE:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a client promised a push")

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._known(number)
        self._received += len(payload)
        if self._received >= _REFILL_BYTES:
            self.send(frames.number_frame(FrameType.WINDOW_UPDATE, 0, self._received))
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:
            return  # it was finished here; what the peer had sent before it knew is of no use
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if stream.half_closed:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
            return
        stream.data(payload)
        if flags & frames.END_STREAM and number in self._streams:
            stream.close_half()

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        _check(number % 2 == 1, "a stream of the server's")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.PRIORITY:
            _check(len(payload) >= 5, "a short HEADERS frame", ErrorCode.FRAME_SIZE_ERROR)
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._header_block(number, flags, payload)
        else:
            self._block, self._block_of = payload, (number, flags)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block_of is None or self._block_of[0] != number:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block += payload
        _check(len(self._block) <= _MAX_HEADER_BYTES, "too many headers", ErrorCode.ENHANCE_YOUR_CALM)
        if flags & frames.END_HEADERS:
            (_, first_flags), block = self._block_of, self._block
            self._block, self._block_of = b"", None
            self._header_block(number, first_flags, block)

    def _header_block(self, number: int, flags: int, block: bytes) -> None:
        headers = self._decode(block)  # always, since it may change the table
        ended = bool(flags & frames.END_STREAM)
        known = self._streams.get(number)
        if known is not None:
            if not ended or known.half_closed or headers is not None:
                self.reset(known, ErrorCode.STREAM_CLOSED if known.half_closed else ErrorCode.PROTOCOL_ERROR)
            else:
                known.close_half()
            return
        if number <= self._last_stream:
            return  # trailers of a stream that was finished here
        self._last_stream = number
        if self._state is State.DRAINING or len(self._streams) >= _MAX_STREAMS:
            self.send(frames.number_frame(FrameType.RST_STREAM, number, ErrorCode.REFUSED_STREAM))
            return
        if headers is None:
            self.send(frames.number_frame(FrameType.RST_STREAM, number, ErrorCode.PROTOCOL_ERROR))
            return
        self._open(number, headers, ended=ended)

    def _open(self, number: int, headers: Mapping[str, str], *, ended: bool) -> None:
        stream = Stream(self, number, self._stream_window)
        if headers.get(":method") != "POST" or not headers.get("content-type", "").startswith("application/grpc"):
            stream.refuse(Status.UNKNOWN, "this is a gRPC server")
            return
        if (opens := self._services.get(headers.get(":path", ""))) is None:
            stream.refuse(Status.UNIMPLEMENTED, "unknown method")
            return
        self._streams[number] = stream
        stream.call = opens(stream, headers)
        if ended:
            stream.close_half()

    def _decode(self, block: bytes) -> Mapping[str, str] | None:
        """Return the headers of a block, the last of equal names; None if they may not open a stream.

        Envoy sends the same block for every stream once its table knows the headers, and such a block changes nothing.
        A block that changes the table gives others another meaning, and what was remembered is forgotten.
        """
        if block in self._blocks:
            return self._blocks[block]
        try:
            pairs = [(str(name), str(value)) for name, value in self._decoder.decode(block)]
        except hpack.HPACKError as error:
            raise ConnectionFailed(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        except UnicodeDecodeError as error:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a header is not text") from error
        headers = dict(pairs) if are_well_formed(pairs) else None
        if not leaves_table(block) or len(self._blocks) >= _CACHED_BLOCKS:
            self._blocks.clear()
        else:
            self._blocks[block] = headers
        return headers

    def _reset(self, number: int, payload: bytes) -> None:
        _check(len(payload) == 4, "an RST_STREAM frame of another size", ErrorCode.FRAME_SIZE_ERROR)
        self._known(number)
        stream = self._streams.get(number)
        if stream is not None:
            self.drop(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        _check(number == 0, "SETTINGS of one stream")
        if flags & frames.ACK:
            _check(not payload, "an acknowledgement with settings", ErrorCode.FRAME_SIZE_ERROR)
            return
        _check(len(payload) % 6 == 0, "a SETTINGS frame of another size", ErrorCode.FRAME_SIZE_ERROR)
        for key, value in frames.read_settings(payload):
            if key == Setting.INITIAL_WINDOW_SIZE:
                _check(value <= frames.MAX_WINDOW, "a window too large", ErrorCode.FLOW_CONTROL_ERROR)
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif key == Setting.MAX_FRAME_SIZE:
                _check(frames.MAX_FRAME_BYTES <= value < 1 << 24, "a frame size out of range")
                self.max_frame_bytes = value
        self.send(frames.frame(FrameType.SETTINGS, frames.ACK, 0))
        self._go_on()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        _check(number == 0, "PING of one stream")
        _check(len(payload) == 8, "a PING frame of another size", ErrorCode.FRAME_SIZE_ERROR)
        if not flags & frames.ACK:
            self.send(frames.frame(FrameType.PING, frames.ACK, 0, payload))

    def _window_update(self, number: int, payload: bytes) -> None:
        _check(len(payload) == 4, "a WINDOW_UPDATE frame of another size", ErrorCode.FRAME_SIZE_ERROR)
        room = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if number == 0:
            _check(room > 0, "a window that does not grow")
            self.window += room
            _check(self.window <= frames.MAX_WINDOW, "a window too large", ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._known(number)
            stream = self._streams.get(number)
            if stream is None:
                return
            stream.window += room
            if not room or stream.window > frames.MAX_WINDOW:
                self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR if room else ErrorCode.PROTOCOL_ERROR)
                return
        self._go_on()

    def _go_on(self) -> None:
        """Send what waited for room."""
        for stream in list(self._blocked.values()):
            del self._blocked[stream.number]
            stream.pump()

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End *stream* without an answer."""
        self.send(frames.number_frame(FrameType.RST_STREAM, stream.number, code))
        self.drop(stream)

    def _known(self, number: int) -> None:
        """Check that *number* is or was a stream."""
        if number not in self._streams:
            _check(0 < number <= self._last_stream and number % 2 == 1, "a frame of a stream that never began")


def _check(holds: bool, message: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise ConnectionFailed(code, message)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
