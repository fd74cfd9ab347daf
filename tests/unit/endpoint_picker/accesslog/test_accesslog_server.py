"""A stream of access-log messages is delivered entry by entry; a bad message or entry costs only itself."""

import pytest

from endpoint_picker.accesslog.server import SERVICE_NAME, AccessLogService
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.localgrpc.streams import Status
from endpoint_picker.protos import access_log_pb2 as access_log
from endpoint_picker.protos.access_log_service_pb2 import StreamAccessLogsMessage


class RecordingSink:
    def __init__(self, failing_id: str = "none") -> None:
        self.ids: list[str] = []
        self._failing_id = failing_id

    def attempt(self, attempt: Attempt) -> None:
        self._note(f"attempt {attempt.request_id}", attempt.request_id)

    def completed(self, completed: CompletedRequest) -> None:
        self._note(f"completed {completed.request_id}", completed.request_id)

    def _note(self, line: str, request_id: str) -> None:
        if request_id == self._failing_id:
            raise KeyError(request_id)
        self.ids.append(line)


def message(*request_ids: str, log_name: str = "") -> bytes:
    made = StreamAccessLogsMessage()
    if log_name:
        made.identifier.log_name = log_name
    attempts = log_name.endswith("attempt")
    for request_id in request_ids:
        entry = made.http_logs.log_entry.add()
        entry.common_properties.access_log_type = access_log.UpstreamEnd if attempts else access_log.DownstreamEnd
        entry.common_properties.custom_tags["host"] = "10.0.0.1:8000"
        entry.request.request_headers["x-request-id"] = request_id
    return made.SerializeToString()


class Answers:
    """Keeps what is answered."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.finished: list[Status] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        del message
        self.finished.append(status)


def stream(log: AccessLogService, *messages: bytes) -> Answers:
    """Give *log* one whole stream; return what it answers."""
    answers = Answers()
    call = log.open_local(answers, {})
    for data in messages:
        call.message(data)
    call.half_closed()
    call.closed()
    return answers


def test_entries_reach_the_sink_in_order_under_the_first_messages_name() -> None:
    sink = RecordingSink()
    stream(AccessLogService(sink), message("a", log_name="inference-gateway.request"), message("b", "c"))
    stream(AccessLogService(sink), message("d", log_name="inference-gateway.attempt"))
    assert sink.ids == ["completed a", "completed b", "completed c", "attempt d"]


def test_a_stream_without_a_name_and_a_foreign_one_say_nothing() -> None:
    sink = RecordingSink()
    log = AccessLogService(sink)
    stream(log, message("a"))
    stream(log, message("a", log_name="other"))
    assert (sink.ids, log.malformed) == ([], 0)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"\xff\xff\xff", id="no-protobuf"),
        # identifier.log_name holding a byte that is no UTF-8
        pytest.param(b"\x0a\x03\x12\x01\xff", id="no-utf-8"),
    ],
)
def test_a_broken_message_is_counted_and_the_stream_goes_on(broken: bytes) -> None:
    sink = RecordingSink()
    counted: list[str] = []
    log = AccessLogService(sink, on_malformed=lambda: counted.append("one"))
    stream(log, message("a", log_name="inference-gateway.request"), broken, message("b"))
    assert sink.ids == ["completed a", "completed b"]
    assert (log.malformed, counted) == (1, ["one"])


def test_an_entry_the_sink_fails_on_is_counted_and_the_others_are_delivered() -> None:
    sink = RecordingSink(failing_id="b")
    log = AccessLogService(sink)
    stream(log, message("a", "b", "c", log_name="inference-gateway.request"))
    assert sink.ids == ["completed a", "completed c"]
    assert log.malformed == 1


def test_a_message_without_http_entries_is_ignored() -> None:
    log = AccessLogService(RecordingSink())
    stream(log, StreamAccessLogsMessage().SerializeToString())
    assert log.malformed == 0


def test_the_service_has_envoys_name() -> None:
    assert SERVICE_NAME == "envoy.service.accesslog.v3.AccessLogService"
