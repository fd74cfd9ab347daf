"""Clients that misbehave: bytes straight onto a connection, and HTTP/2 frame by frame."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h2.connection
import h2.events
import h2.exceptions

from integration.standalone import chat

CHATS = "/v1/chat/completions"


def chat_head(length: int, *fields: str) -> bytes:
    """Head of a chat whose body has *length* bytes, without the empty line that ends it."""
    lines = (f"POST {CHATS} HTTP/1.1", "host: gateway", "content-type: application/json", f"content-length: {length}")
    return "".join(f"{line}\r\n" for line in (*lines, *fields)).encode()


def chat_request(model: str, *fields: str, **document: Any) -> bytes:
    """A whole chat."""
    body = json.dumps(chat(model, **document)).encode()
    return chat_head(len(body), *fields) + b"\r\n" + body


@dataclass(frozen=True, slots=True)
class RawClient:
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def half_close(self) -> None:
        """Say that nothing more is sent."""
        self.writer.write_eof()

    def leave(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer that says how long it is."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        return int(head.split()[1]), await self.reader.readexactly(int(fields["content-length"]))

    async def rest(self) -> bytes:
        """All that comes until the gateway closes; a reset counts as the end."""
        pieces = []
        try:
            while piece := await self.reader.read(65_536):
                pieces.append(piece)
        except ConnectionError:
            pass
        return b"".join(pieces)


@asynccontextmanager
async def raw_client(port: int, *, receive_buffer: int = 0) -> AsyncIterator[RawClient]:
    """A connection to *port*, reset in the end; a small *receive_buffer* leaves what is not read with the sender."""
    connection = socket.socket()
    connection.setblocking(False)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    limit = receive_buffer or 65_536
    reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
    client = RawClient(reader, writer)
    try:
        yield client
    finally:
        client.leave()


@dataclass(slots=True)
class Http2Client:
    """One HTTP/2 connection, cleartext with prior knowledge.

    Attributes:
        statuses: By stream, of answers that have begun.
        ended: Streams whose answers are whole.
        closed: The gateway has ended the connection.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: h2.connection.H2Connection
    statuses: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    closed: bool = False

    def ask(self, model: str) -> int:
        """Begin a chat; return its stream."""
        body = json.dumps(chat(model)).encode()
        stream = self.connection.get_next_available_stream_id()
        fields = {":method": "POST", ":path": CHATS, ":scheme": "http", ":authority": "gateway"}
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
        self.connection.send_headers(stream, [*fields.items()])
        self.connection.send_data(stream, body, end_stream=True)
        return stream

    def cancel(self, stream: int) -> None:
        self.connection.reset_stream(stream, error_code=8)

    async def flush(self) -> None:
        """Send what is due; what cannot be sent means that the gateway has closed."""
        try:
            self.writer.write(self.connection.data_to_send())
            await self.writer.drain()
        except ConnectionError:
            self.closed = True

    async def receive(self) -> None:
        """Take in what has come, waiting for some of it."""
        try:
            data = await self.reader.read(65_536)
            events = self.connection.receive_data(data) if data else []
        except (ConnectionError, h2.exceptions.ProtocolError):
            data, events = b"", []
        self.closed = self.closed or not data
        for event in events:
            match event:
                case h2.events.ResponseReceived():
                    self.statuses[event.stream_id] = int(dict(event.headers)[b":status"])
                case h2.events.DataReceived():
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)
        await self.flush()


@asynccontextmanager
async def http2_client(port: int) -> AsyncIterator[Http2Client]:
    """An HTTP/2 connection to *port*, reset in the end."""
    async with raw_client(port) as raw:
        client = Http2Client(raw.reader, raw.writer, h2.connection.H2Connection())
        client.connection.initiate_connection()
        await client.flush()
        await client.receive()
        yield client
