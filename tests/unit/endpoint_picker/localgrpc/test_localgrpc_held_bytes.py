"""A stream holds no more than one message, whatever the peer sends and however long it takes nothing."""

from collections.abc import Callable, Mapping

import hpack
import pytest

from endpoint_picker.localgrpc import frames
from endpoint_picker.localgrpc.connection import Connection
from endpoint_picker.localgrpc.frames import FrameType
from endpoint_picker.localgrpc.streams import Answers

HEADERS = [(":method", "POST"), (":scheme", "http"), (":path", "/s/M"), ("content-type", "application/grpc")]
LARGE = b"a" * 100_000
"""More than the peer's first window takes."""


class Call:
    """Notes its messages and answers each."""

    def __init__(self, answers: Answers, answer: Callable[[Answers], None]) -> None:
        self.answers = answers
        self.messages: list[bytes] = []
        self._answer = answer

    def message(self, data: bytes) -> None:
        self.messages.append(data)
        self._answer(self.answers)

    def half_closed(self) -> None:
        """Nothing to do."""

    def closed(self) -> None:
        """Nothing to do."""


def answer_more_than_is_taken(answers: Answers) -> None:
    answers.send(LARGE)
    answers.finish()


def connected(answer: Callable[[Answers], None]) -> tuple[Connection, list[Call], list[bytes]]:
    calls: list[Call] = []
    written: list[bytes] = []

    def opened(answers: Answers, headers: Mapping[str, str]) -> Call:
        calls.append(Call(answers, answer))
        return calls[-1]

    connection = Connection({"/s/M": opened}, write=written.append, close=lambda: None, max_message_bytes=1000)
    block = hpack.Encoder().encode(HEADERS)
    connection.receive(frames.PREFACE + frames.frame(FrameType.HEADERS, frames.END_HEADERS, 1, block))
    return connection, calls, written


def data(payload: bytes) -> bytes:
    return frames.frame(FrameType.DATA, 0, 1, payload)


@pytest.mark.parametrize("payload", [b"\0\0\0\0\x02hi", b"\0\0\0\0\x02h", b"\1\0\0\0\0", b"x"])
def test_what_comes_after_a_whole_answer_is_dropped_while_the_answer_waits_for_room(payload: bytes) -> None:
    connection, calls, written = connected(answer_more_than_is_taken)
    connection.receive(data(b"\0\0\0\0\x01a"))
    assert connection.streams == 1  # the answer is not out yet
    for _ in range(1000):
        connection.receive(data(payload))
    assert calls[0].messages == [b"a"]
    (stream,) = connection._streams.values()
    assert stream._partial == []
    room = frames.number_frame(FrameType.WINDOW_UPDATE, 0, len(LARGE))
    connection.receive(room + frames.number_frame(FrameType.WINDOW_UPDATE, 1, len(LARGE)))
    assert connection.streams == 0
    assert b"".join(written).count(b"a") >= len(LARGE)


def test_empty_data_frames_leave_nothing_behind() -> None:
    connection, calls, _ = connected(lambda answers: None)
    connection.receive(data(b"\0\0\0\0\x02h"))
    connection.receive(data(b"") * 1000)
    (stream,) = connection._streams.values()
    assert stream._partial == [b"h"]
    connection.receive(data(b"i"))
    assert calls[0].messages == [b"hi"]
