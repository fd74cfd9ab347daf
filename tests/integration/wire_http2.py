"""An HTTP/2 client that sends whatever header block it is given, and one that keeps the rules."""

import asyncio
from collections.abc import Sequence

import h2.config
import h2.connection
import h2.events
import hpack
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from integration.wire import SECONDS, Answer

Fields = Sequence[tuple[str, str]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def fields(path: str = "/v1/chat/completions", *more: tuple[str, str], **changed: str | None) -> list[tuple[str, str]]:
    """The header block of a request; *changed* pseudo-headers are replaced, those of None left out."""
    pseudo = {"method": "POST", "scheme": "http", "path": path, "authority": "x"} | changed
    given = [(f":{name}", value) for name, value in pseudo.items() if value is not None]
    return [*given, ("content-type", "application/json"), *more]


def _frame(kind: type[HeadersFrame | DataFrame], data: bytes, *flags: str) -> bytes:
    frame = kind(1)
    frame.data = data
    for flag in flags:
        frame.flags.add(flag)
    return frame.serialize()


def frames(block: Fields, body: bytes | None = None, trailers: Fields | None = None) -> bytes:
    """A connection with one request, whatever rule it breaks; the last frame ends the stream."""
    encoder = hpack.Encoder()
    ends_at = "headers" if body is None and trailers is None else "body" if trailers is None else "trailers"
    sent = PREFACE + SettingsFrame(0).serialize()
    sent += _frame(HeadersFrame, encoder.encode(block), "END_HEADERS", *["END_STREAM"] * (ends_at == "headers"))
    if body is not None:
        sent += _frame(DataFrame, body, *["END_STREAM"] * (ends_at == "body"))
    if trailers is not None:
        sent += _frame(HeadersFrame, encoder.encode(trailers), "END_HEADERS", "END_STREAM")
    return sent


async def send_frames(port: int, sent: bytes) -> Answer:
    """Send frames and return the answer; status 0: stream or connection was ended without one."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(sent)
            return await _read(reader)
        except ConnectionError:
            return Answer()
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Answer:
    decoder, status, headers, body = hpack.Decoder(), 0, dict[str, str](), b""
    while True:
        try:
            frame, length = Frame.parse_frame_header(memoryview(await reader.readexactly(9)))
            frame.parse_body(memoryview(await reader.readexactly(length)))
        except asyncio.IncompleteReadError:
            return Answer()
        match frame:
            case HeadersFrame():
                headers = {str(name): str(value) for name, value in decoder.decode(frame.data)}
                status = int(headers[":status"])
            case DataFrame():
                body += frame.data
            case RstStreamFrame():
                return Answer()
            case GoAwayFrame() if frame.error_code:
                return Answer()
        if "END_STREAM" in frame.flags and frame.stream_id:
            return Answer(status, headers, body)


async def upload(port: int, body: bytes) -> Answer:
    """Send a request by all rules of flow control and return its answer."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, fields())
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await _upload(connection, reader, writer, body)
        finally:
            writer.close()


async def _upload(
    connection: h2.connection.H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> Answer:
    headers: dict[str, str] = {}
    answer, sent = b"", 0
    while True:
        while sent < len(body) and (room := connection.local_flow_control_window(1)):
            piece = body[sent : sent + min(room, connection.max_outbound_frame_size)]
            sent += len(piece)
            connection.send_data(1, piece, end_stream=sent == len(body))
        writer.write(connection.data_to_send())
        for event in connection.receive_data(await reader.read(65536)):
            match event:
                case h2.events.ResponseReceived():
                    headers = {str(name): str(value) for name, value in event.headers}
                case h2.events.DataReceived():
                    answer += event.data
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    return Answer(int(headers.get(":status", 0)), headers, answer)
                case h2.events.ConnectionTerminated():
                    return Answer()
