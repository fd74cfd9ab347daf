"""The gRPC service to which Envoy streams its access log.

Envoy keeps one stream open per worker thread and logger, never waits for an answer, and loses what it cannot send. So
one bad entry must not cost the stream: it is counted and left out.
"""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

import grpc
from google.protobuf.message import DecodeError

from endpoint_picker.accesslog.entry import read_entry
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.protos import access_log_service_pb2 as service
from endpoint_picker.protos.access_log_pb2 import HTTPAccessLogEntry

_LOGGER = logging.getLogger(__name__)

SERVICE_NAME: Final = service.DESCRIPTOR.services_by_name["AccessLogService"].full_name


class CompletionSink(Protocol):
    """Takes what the data plane reports; called on the event loop, must not block."""

    def attempt(self, attempt: Attempt) -> None:
        """Note an attempt, live or ended."""

    def completed(self, completed: CompletedRequest) -> None:
        """Settle a request that has ended."""


class AccessLogService:
    """Reads streams of access-log messages into a sink.

    Attributes:
        malformed: Messages that could not be decoded, and entries that the reader or the sink failed on.
    """

    def __init__(self, sink: CompletionSink, *, on_malformed: Callable[[], None] | None = None) -> None:
        self._sink = sink
        self._on_malformed = on_malformed
        self.malformed = 0

    async def stream(self, messages: AsyncIterator[bytes], _context: object) -> service.StreamAccessLogsResponse:
        """Read one stream until Envoy closes or resets it, which look the same.

        Messages are decoded here: a decoding error in gRPC's own code would end the stream.
        """
        log_name = ""
        async for data in messages:
            try:
                message = service.StreamAccessLogsMessage.FromString(data)
            except DecodeError:
                self._count_malformed()
                continue
            # Only the first message of a stream says which log it is.
            log_name = message.identifier.log_name or log_name
            for entry in message.http_logs.log_entry:
                self._deliver(entry, log_name)
        return service.StreamAccessLogsResponse()

    def _deliver(self, entry: HTTPAccessLogEntry, log_name: str) -> None:
        try:
            match read_entry(entry, log_name):
                case Attempt() as attempt:
                    self._sink.attempt(attempt)
                case CompletedRequest() as completed:
                    self._sink.completed(completed)
                case None:
                    pass
        except Exception:  # an entry is the unit that ends here; the stream and its other entries go on
            _LOGGER.exception("access-log entry could not be delivered", extra={"log_name": log_name})
            self._count_malformed()

    def _count_malformed(self) -> None:
        self.malformed += 1
        if self._on_malformed is not None:
            self._on_malformed()


def register(
    server: grpc.aio.Server, sink: CompletionSink, *, on_malformed: Callable[[], None] | None = None
) -> AccessLogService:
    """Add the service to *server* and return it.

    Args:
        server: A server that was not started yet.
        sink: Where attempts and completed requests go.
        on_malformed: Called once for everything that is left out, for a counter.
    """
    access_log_service = AccessLogService(sink, on_malformed=on_malformed)
    handler: grpc.RpcMethodHandler[bytes, service.StreamAccessLogsResponse] = grpc.stream_unary_rpc_method_handler(
        access_log_service.stream,
        # No request deserializer: the handler gets bytes.
        response_serializer=service.StreamAccessLogsResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE_NAME, {"StreamAccessLogs": handler}),)
    )
    return access_log_service
