"""HTTP/2 frames as bytes, and the literals that a gRPC server sends.

Source: RFC 9113 sections 4 and 6, RFC 7541 section 6.2.2, and gRPC over HTTP/2.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final
from urllib.parse import quote

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
MAX_FRAME_BYTES: Final = 16_384
"""Largest payload that every peer takes, and the largest taken here."""
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

_HEAD: Final = struct.Struct(">HBBBL")
_SETTING: Final = struct.Struct(">HL")
_MESSAGE_HEAD: Final = struct.Struct(">BL")
_OK: Final = b"\x88"  # `:status: 200` of the static table


class FrameType(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Settings that matter here."""

    HEADER_TABLE_SIZE = 1
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5


class ErrorCode(IntEnum):
    """Reasons to end a stream or a connection."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFailed(Exception):
    """The peer broke the protocol; the connection ends.

    Attributes:
        code: What it is told.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def head_of(data: bytes, start: int) -> tuple[int, int, int, int]:
    """Return length, type, flags and stream of the frame whose head begins at *start*."""
    high, low, kind, flags, stream = _HEAD.unpack_from(data, start)
    return high << 8 | low, kind, flags, stream & MAX_WINDOW


def frame(kind: FrameType, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Return one frame."""
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def settings_frame(values: Iterable[tuple[Setting, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(FrameType.SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the pairs of a SETTINGS frame, unknown ones included."""
    return list(_SETTING.iter_unpack(payload))


def number_frame(kind: FrameType, stream: int, number: int) -> bytes:
    """Return a WINDOW_UPDATE or RST_STREAM frame."""
    return frame(kind, 0, stream, number.to_bytes(4, "big"))


def goaway_frame(last_stream: int, code: ErrorCode) -> bytes:
    """Return a GOAWAY frame."""
    return frame(FrameType.GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big"))


def message_head(length: int) -> bytes:
    """Return what goes before an uncompressed gRPC message of *length* bytes."""
    return _MESSAGE_HEAD.pack(0, length)


def read_message_head(data: bytes) -> tuple[int, int]:
    """Return the compression flag and the length of a gRPC message."""
    compressed, length = _MESSAGE_HEAD.unpack_from(data)
    return compressed, length


def _literal(name: str, value: str) -> bytes:
    """Return a header without indexing: our side of the header table stays empty."""
    parts = [b"\x00"]
    for text in (name, value):
        encoded = text.encode("ascii")
        parts += [bytes([len(encoded)]), encoded]
    return b"".join(parts)


_GRPC_TYPE: Final = _literal("content-type", "application/grpc")
RESPONSE_HEADERS: Final = _OK + _GRPC_TYPE
"""Header block that opens every answer."""
_LONGEST_MESSAGE: Final = 100


def trailers(status: int, message: str = "", *, alone: bool = False) -> bytes:
    """Return the header block that ends an answer; *alone*: no answer was opened before."""
    block = _literal("grpc-status", str(status))
    if message:
        shown = quote(message[: _LONGEST_MESSAGE // 3], safe=" ()*+,-./:;<=>?@[]_{}'")
        block += _literal("grpc-message", shown[:_LONGEST_MESSAGE])
    return RESPONSE_HEADERS + block if alone else block
