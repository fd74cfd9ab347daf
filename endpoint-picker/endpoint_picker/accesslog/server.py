"""The gRPC service to which Envoy streams its access log.

Envoy keeps one stream open per worker thread and logger, never waits for an answer, and loses what it cannot send. So
one bad entry must not cost the stream: it is counted and left out.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from endpoint_picker.accesslog.entry import read_entry
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.localgrpc.streams import Answers
from endpoint_picker.protos import access_log_service_pb2 as service
from endpoint_picker.protos.access_log_pb2 import HTTPAccessLogEntry

_LOGGER = logging.getLogger(__name__)

SERVICE_NAME: Final = service.DESCRIPTOR.services_by_name["AccessLogService"].full_name
METHOD: Final = f"/{SERVICE_NAME}/StreamAccessLogs"


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

    def open_local(self, answers: Answers, _headers: Mapping[str, str]) -> "LocalLog":
        """Read one stream until Envoy closes or resets it, which look the same."""
        return LocalLog(self, answers)

    def _take(self, data: bytes, log_name: str) -> str:
        """Deliver the entries of one message; return the name of the log for the next."""
        try:
            message = service.StreamAccessLogsMessage.FromString(data)
        except DecodeError:
            self._count_malformed()
            return log_name
        # Only the first message of a stream says which log it is.
        log_name = message.identifier.log_name or log_name
        for entry in message.http_logs.log_entry:
            self._deliver(entry, log_name)
        return log_name

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


class LocalLog:
    """One stream of the Envoy beside this process; made by `AccessLogService.open_local`."""

    def __init__(self, log_service: AccessLogService, answers: Answers) -> None:
        self._service = log_service
        self._answers = answers
        self._log_name = ""

    def message(self, data: bytes) -> None:
        """Deliver the entries of one message."""
        self._log_name = self._service._take(data, self._log_name)  # noqa: SLF001 - two halves of one thing

    def half_closed(self) -> None:
        """Answer the end of the log."""
        self._answers.send(service.StreamAccessLogsResponse().SerializeToString())
        self._answers.finish()

    def closed(self) -> None:
        """Nothing is held."""
