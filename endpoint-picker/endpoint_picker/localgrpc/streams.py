"""One gRPC stream: messages cut out of data frames, and answers cut into them."""

from collections.abc import Callable, Coroutine, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from endpoint_picker.localgrpc import frames
from endpoint_picker.localgrpc.frames import FrameType

if TYPE_CHECKING:
    from endpoint_picker.localgrpc.connection import Connection

_MESSAGE_HEAD_BYTES: Final = 5
_REFILL_BYTES: Final = 256 * 1024 * 1024


class Status(IntEnum):
    """gRPC status codes that are sent."""

    OK = 0
    UNKNOWN = 2
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class Call(Protocol):
    """What serves one stream; called on the event loop, must not block."""

    def message(self, data: bytes) -> None:
        """Take one message."""

    def half_closed(self) -> None:
        """Learn that no further message comes."""

    def closed(self) -> None:
        """Learn, exactly once, that the stream is over, however it ended."""


class Answers(Protocol):
    """What a call may do with its stream; once the stream is over, nothing happens."""

    def send(self, message: bytes) -> None:
        """Send one message."""

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        """End the stream."""


Open: TypeAlias = Callable[[Answers, Mapping[str, str]], Call]
"""Opens a call for a stream and its headers."""
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], object]
"""Runs a coroutine that never raises beside everything else."""


class Stream:
    """One stream of a `Connection`; both write it.

    Attributes:
        number: Of the stream.
        window: Bytes the peer takes of this stream; may be below 0 for a while.
        half_closed: The peer sends nothing more.
        call: What serves it; None before it is opened.
    """

    __slots__ = (
        "_connection",
        "_opened",
        "_partial",
        "_partial_bytes",
        "_received",
        "_trailers",
        "_unsent",
        "_wanted",
        "call",
        "half_closed",
        "number",
        "window",
    )

    def __init__(self, connection: "Connection", number: int, window: int) -> None:
        self._connection: Connection | None = connection
        self.number = number
        self.window = window
        self.half_closed = False
        self.call: Call | None = None
        self._opened = False
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._wanted = -1
        self._received = 0
        self._unsent = memoryview(b"")
        self._trailers = b""

    # -- from the peer ----------------------------------------------------------------------------------------------

    def data(self, payload: bytes) -> None:
        """Take the payload of one data frame; once the answer is complete it is of no use."""
        connection = self._connection
        if connection is None:
            return
        self._received += len(payload)
        if self._received >= _REFILL_BYTES:
            connection.send(frames.number_frame(FrameType.WINDOW_UPDATE, self.number, self._received))
            self._received = 0
        length = len(payload)
        if not length or self._trailers:
            return
        if not self._partial and self._wanted < 0 and length >= _MESSAGE_HEAD_BYTES and not payload[0]:
            # nearly always: a frame that holds exactly one message
            wanted = int.from_bytes(payload[1:_MESSAGE_HEAD_BYTES], "big")
            if wanted == length - _MESSAGE_HEAD_BYTES and wanted <= connection.max_message_bytes:
                self._deliver(payload[_MESSAGE_HEAD_BYTES:])
                return
        self._partial.append(payload)
        self._partial_bytes += length
        if self._partial_bytes < self._wanted:
            return
        if self._partial_bytes == self._wanted:
            message = b"".join(self._partial)  # a large one is copied once
            self._partial, self._partial_bytes, self._wanted = [], 0, -1
            self._deliver(message)
            return
        self._cut(connection)

    def _cut(self, connection: "Connection") -> None:
        """Deliver the whole messages among what has come."""
        held = b"".join(self._partial)
        start = 0
        while self._connection is not None and not self._trailers:
            if self._wanted < 0:
                if len(held) - start < _MESSAGE_HEAD_BYTES:
                    break
                compressed, length = frames.read_message_head(held[start : start + _MESSAGE_HEAD_BYTES])
                if compressed:
                    self.finish(Status.UNIMPLEMENTED, "compressed messages are not read")
                    return
                if length > connection.max_message_bytes:
                    self.finish(Status.RESOURCE_EXHAUSTED, f"a message of {length} bytes")
                    return
                self._wanted = length
                start += _MESSAGE_HEAD_BYTES
            if len(held) - start < self._wanted:
                break
            message = held[start : start + self._wanted]
            start += self._wanted
            self._wanted = -1
            self._deliver(message)
        rest = b"" if self._trailers else held[start:]
        self._partial, self._partial_bytes = ([rest], len(rest)) if rest else ([], 0)

    def _deliver(self, message: bytes) -> None:
        if self.call is not None:
            self.call.message(message)

    def close_half(self) -> None:
        """Take the end of what the peer sends."""
        self.half_closed = True
        if self._partial or self._wanted >= 0:
            self.finish(Status.INTERNAL, "the stream ended within a message")
        elif self.call is not None:
            self.call.half_closed()

    def end(self) -> None:
        """Tell the call that the stream is over; called by the connection, once."""
        self._connection = None
        self._partial, self._unsent = [], memoryview(b"")
        if self.call is not None:
            self.call.closed()

    # -- to the peer ------------------------------------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        """Send one message; nothing happens when the stream is over."""
        connection = self._connection
        if connection is None or self._trailers:
            return
        self._open_answer(connection)
        payload = frames.message_head(len(message)) + message
        length = len(payload)
        if not self._unsent and length <= min(self.window, connection.window, connection.max_frame_bytes):
            self._emit(connection, payload)
            return
        self._unsent = memoryview(bytes(self._unsent) + payload if self._unsent else payload)
        self.pump()

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        """End the stream, after what is still to be sent; nothing happens when it is over."""
        connection = self._connection
        if connection is None or self._trailers:
            return
        self._trailers = frames.trailers(status, message, alone=not self._opened)
        self._partial, self._partial_bytes = [], 0
        self.pump()

    def refuse(self, status: Status, message: str) -> None:
        """End a stream that no call was opened for."""
        connection = self._connection
        if connection is not None:
            block = frames.trailers(status, message, alone=True)
            connection.send(frames.frame(FrameType.HEADERS, frames.END_HEADERS | frames.END_STREAM, self.number, block))

    def pump(self) -> None:
        """Send what there is room for."""
        connection = self._connection
        if connection is None:
            return
        while self._unsent:
            room = min(self.window, connection.window, connection.max_frame_bytes)
            if room <= 0:
                connection.wait_for_room(self)
                return
            payload, self._unsent = self._unsent[:room], self._unsent[room:]
            self._emit(connection, payload)
        if self._trailers:
            flags = frames.END_HEADERS | frames.END_STREAM
            connection.send(frames.frame(FrameType.HEADERS, flags, self.number, self._trailers))
            connection.drop(self)

    def _open_answer(self, connection: "Connection") -> None:
        if not self._opened:
            self._opened = True
            block = frames.RESPONSE_HEADERS
            connection.send(frames.frame(FrameType.HEADERS, frames.END_HEADERS, self.number, block))

    def _emit(self, connection: "Connection", payload: bytes | memoryview) -> None:
        self.window -= len(payload)
        connection.window -= len(payload)
        connection.send(frames.frame(FrameType.DATA, 0, self.number, payload))
