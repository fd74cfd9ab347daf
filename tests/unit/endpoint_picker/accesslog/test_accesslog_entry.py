"""An access-log entry becomes an attempt, a completed request or nothing, and whatever it lacks is unknown."""

import math

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.accesslog.entry import read_entry
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.trace_context import TraceContext
from endpoint_picker.domain.usage import Usage
from endpoint_picker.protos import access_log_pb2 as access_log
from endpoint_picker.protos import core_pb2 as core
from endpoint_picker.protos.access_log_pb2 import HTTPAccessLogEntry
from endpoint_picker.protos.token_usage_pb2 import TokenUsage

REQUEST = "inference-gateway.request"
ATTEMPT = "inference-gateway.attempt"
OWN = "inferencegateway.dev"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def entry(
    kind: int = access_log.DownstreamEnd,
    *,
    tags: dict[str, str] | None = None,
    metadata: dict[str, object] | None = None,
    status: int | None = 200,
    request_id: str = "r-1",
) -> HTTPAccessLogEntry:
    made = HTTPAccessLogEntry()
    common = made.common_properties
    common.access_log_type = kind
    common.custom_tags.update({"host": "10.0.0.1:8000", **(tags or {})})
    common.duration.FromMicroseconds(250_000)
    if metadata is not None:
        common.metadata.filter_metadata[OWN].update(metadata)
    if status is not None:
        made.response.response_code.value = status
    if request_id:
        made.request.request_headers["x-request-id"] = request_id
    return made


def completed(made: HTTPAccessLogEntry) -> CompletedRequest:
    result = read_entry(made, REQUEST)
    assert isinstance(result, CompletedRequest)
    return result


def attempt(made: HTTPAccessLogEntry) -> Attempt:
    result = read_entry(made, ATTEMPT)
    assert isinstance(result, Attempt)
    return result


def test_a_completed_request_carries_everything() -> None:
    made = entry(
        tags={
            "ttft_us": "127000",
            "body_us": "100500",
            "flags": "-",
            "attempt_first_byte_us": "90000",
        },
        metadata={
            "correlation-id": "c-1",
            "model": "m",
            "target-model": "m-lora",
            "pool": "ns/pool",
            "usage-prompt-tokens": 10.0,
            "usage-completion-tokens": 5.0,
        },
    )
    common = made.common_properties
    common.upstream_cluster = "pool_a"
    common.route_name = "httproute/ns/r/0"
    made.response.response_code_details = "via_upstream"
    common.upstream_request_attempt_count = 2
    common.start_time.FromMilliseconds(1_700_000_000_500)
    made.request.request_method = core.POST
    made.request.path = "/v1/chat/completions?x=1"
    made.request.request_body_bytes = 300
    made.response.response_body_bytes = 900
    made.response.response_headers["content-type"] = "text/event-stream; charset=utf-8"
    assert read_entry(made, REQUEST) == CompletedRequest(
        correlation_id="c-1",
        request_id="r-1",
        method="POST",
        path="/v1/chat/completions",
        route="httproute/ns/r/0",
        cluster="pool_a",
        address="10.0.0.1:8000",
        last_address="10.0.0.1:8000",
        attempts=2,
        status=200,
        details="via_upstream",
        model="m",
        target_model="m-lora",
        pool="ns/pool",
        streaming=True,
        usage=Usage(10, 5, 15),
        ttft_seconds=pytest.approx(0.127),
        duration_seconds=pytest.approx(0.25),
        body_seconds=pytest.approx(0.1005),
        attempt_first_byte_seconds=pytest.approx(0.09),
        request_bytes=300,
        response_bytes=900,
        started_at=pytest.approx(1_700_000_000.5),
    )


def test_a_request_that_no_endpoint_answered_names_the_last_that_was_tried() -> None:
    result = completed(entry(status=0, tags={"flags": "DC"}))
    assert (result.address, result.last_address) == ("", "10.0.0.1:8000")


def test_a_request_that_was_not_dispatched_names_its_stream() -> None:
    made = entry(status=0, tags={"host": "-", "flags": "DC"})
    made.request.request_headers["x-gateway-stream-id"] = "s-1"
    result = completed(made)
    assert (result.correlation_id, result.stream_id, result.last_address) == ("", "s-1", "")


def test_progress_is_joined_by_what_no_client_can_choose() -> None:
    made = entry(access_log.DownstreamPeriodic, metadata={"correlation-id": "c-1"})
    result = read_entry(made, REQUEST)
    assert isinstance(result, Attempt)
    assert result.correlation_id == "c-1"


def test_an_empty_entry_is_a_completed_request_of_which_nothing_is_known() -> None:
    assert read_entry(HTTPAccessLogEntry(), REQUEST) == CompletedRequest()


def test_reading_leaves_the_entry_as_it_was() -> None:
    made = HTTPAccessLogEntry()
    read_entry(made, REQUEST)
    assert made == HTTPAccessLogEntry()


@pytest.mark.parametrize(
    ("log_name", "kind", "intermediate", "expected"),
    [
        pytest.param(REQUEST, access_log.DownstreamEnd, False, "completed", id="request-end"),
        pytest.param(REQUEST, access_log.DownstreamPeriodic, True, "live", id="request-periodic"),
        pytest.param(REQUEST, access_log.DownstreamStart, True, "nothing", id="request-start"),
        pytest.param(REQUEST, access_log.NotSet, False, "completed", id="request-untyped"),
        pytest.param(REQUEST, access_log.NotSet, True, "live", id="request-untyped-intermediate"),
        pytest.param(REQUEST, access_log.UpstreamEnd, False, "nothing", id="attempt-in-the-request-log"),
        pytest.param(REQUEST, access_log.TcpConnectionEnd, False, "nothing", id="tcp"),
        pytest.param(REQUEST, 99, False, "nothing", id="unknown-type"),
        pytest.param(ATTEMPT, access_log.UpstreamPoolReady, False, "live", id="attempt-dialled"),
        pytest.param(ATTEMPT, access_log.UpstreamPeriodic, True, "live", id="attempt-periodic"),
        pytest.param(ATTEMPT, access_log.UpstreamEnd, False, "ended", id="attempt-end"),
        pytest.param(ATTEMPT, access_log.NotSet, False, "ended", id="attempt-untyped"),
        pytest.param(ATTEMPT, access_log.NotSet, True, "live", id="attempt-untyped-intermediate"),
        pytest.param(ATTEMPT, access_log.DownstreamEnd, False, "nothing", id="request-in-the-attempt-log"),
        pytest.param("", access_log.DownstreamEnd, False, "nothing", id="unnamed-log"),
        pytest.param("somebody-elses", access_log.DownstreamEnd, False, "nothing", id="foreign-log"),
    ],
)
def test_the_log_and_the_type_decide(log_name: str, kind: int, intermediate: bool, expected: str) -> None:
    made = entry(kind)
    made.common_properties.intermediate_log_entry = intermediate
    match read_entry(made, log_name):
        case CompletedRequest():
            assert expected == "completed"
        case Attempt(live=live):
            assert expected == ("live" if live else "ended")
        case None:
            assert expected == "nothing"


def test_an_attempt_that_ended() -> None:
    made = entry(access_log.UpstreamEnd, tags={"flags": "UPE", "attempt_first_byte_us": "40000"}, status=200)
    assert attempt(made) == Attempt(
        request_id="r-1",
        address="10.0.0.1:8000",
        status=200,
        flags="UPE",
        started=True,
        first_byte_seconds=pytest.approx(0.04),
        duration_seconds=pytest.approx(0.25),
    )


def test_an_attempt_without_an_answer_has_no_status() -> None:
    result = attempt(entry(access_log.UpstreamEnd, tags={"flags": "SI"}, status=None))
    assert (result.status, result.started, result.failed) == (None, False, True)
    assert attempt(entry(access_log.UpstreamEnd, status=0)).status is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("0", 0.0, id="at-once"),
        pytest.param("Wed, 21 Oct 2026 07:28:00 GMT", 1.0, id="a-date-asks-for-a-moment"),
        pytest.param("-5", 1.0, id="no-number"),
        pytest.param("9" * 400, None, id="absurd"),
    ],
)
def test_an_attempt_knows_when_the_endpoint_wants_to_be_asked_again(value: str | None, seconds: float | None) -> None:
    made = entry(access_log.UpstreamEnd, status=429)
    if value is not None:
        made.response.response_headers["retry-after"] = value
    assert attempt(made).retry_after_seconds == seconds


def test_a_live_attempt_has_no_result() -> None:
    result = attempt(entry(access_log.UpstreamPoolReady, status=200))
    assert (result.live, result.status, result.duration_seconds) == (True, None, None)


def test_an_attempt_at_no_endpoint_is_nothing() -> None:
    assert read_entry(entry(access_log.UpstreamEnd, tags={"host": "-"}), ATTEMPT) is None
    assert read_entry(entry(access_log.DownstreamPeriodic, tags={"host": ""}), REQUEST) is None


@pytest.mark.parametrize("started", [True, False])
def test_progress_says_whether_the_answer_has_begun(started: bool) -> None:
    made = entry(access_log.DownstreamPeriodic, tags={"ttft_us": "5000"} if started else {})
    assert read_entry(made, REQUEST) == Attempt("r-1", "10.0.0.1:8000", started=started, live=True)


@pytest.mark.parametrize(
    ("status", "details", "expected"),
    [
        pytest.param(200, "via_upstream", "10.0.0.1:8000", id="answered"),
        pytest.param(500, "via_upstream", "10.0.0.1:8000", id="the-endpoints-own-error"),
        pytest.param(200, "upstream_reset_after_response_started{reset}", "10.0.0.1:8000", id="cut-off"),
        pytest.param(200, "downstream_remote_disconnect", "10.0.0.1:8000", id="client-left-in-the-middle"),
        pytest.param(None, "downstream_remote_disconnect", "", id="client-left-before"),
        pytest.param(503, "upstream_reset_before_response_started{timeout}", "", id="envoys-503-after-a-try"),
        pytest.param(504, "response_timeout", "", id="envoys-504"),
        pytest.param(429, "ext_proc_response", "", id="the-pickers-answer"),
        pytest.param(200, "", "10.0.0.1:8000", id="no-details"),
    ],
)
def test_only_an_endpoint_that_answered_served(status: int | None, details: str, expected: str) -> None:
    made = entry(status=status)
    made.response.response_code_details = details
    assert completed(made).address == expected


def test_a_status_that_was_never_sent_is_zero() -> None:
    result = completed(entry(status=None, tags={"flags": "DC"}))
    assert (result.status, result.client_gone, result.failed) == (0, True, False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param(core.SocketAddress(address="10.0.0.2", port_value=80), "10.0.0.2:80", id="ipv4"),
        pytest.param(core.SocketAddress(address="fd00::1", port_value=80), "[fd00::1]:80", id="ipv6"),
        pytest.param(core.SocketAddress(address="10.0.0.2"), "", id="no-port"),
        pytest.param(core.SocketAddress(), "", id="nothing"),
    ],
)
def test_without_the_tag_the_address_is_the_entrys(address: core.SocketAddress, expected: str) -> None:
    made = entry(tags={"host": ""})
    made.common_properties.upstream_remote_address.socket_address.CopyFrom(address)
    assert completed(made).address == expected


@pytest.mark.parametrize(
    ("tag", "bits", "expected", "gone"),
    [
        pytest.param("DC", (), "DC", True, id="tag"),
        pytest.param("UF,URX", (), "UF,URX", False, id="several"),
        pytest.param("-", (), "", False, id="none"),
        pytest.param("", ("upstream_connection_failure", "upstream_retry_limit_exceeded"), "UF,URX", False, id="bits"),
        pytest.param("", ("downstream_remote_reset",), "DR", True, id="client-reset"),
    ],
)
def test_flags(tag: str, bits: tuple[str, ...], expected: str, gone: bool) -> None:
    made = entry(tags={"flags": tag})
    for bit in bits:
        setattr(made.common_properties.response_flags, bit, True)
    result = completed(made)
    assert (result.flags, result.client_gone) == (expected, gone)


def test_every_flag_bit_has_a_name() -> None:
    made = entry()
    flags = made.common_properties.response_flags
    for field in flags.DESCRIPTOR.fields:
        if field.message_type is None:
            setattr(flags, field.name, True)
    flags.unauthorized_details.reason = access_log.ResponseFlags.Unauthorized.EXTERNAL_SERVICE
    assert len(set(completed(made).flags.split(","))) == len(flags.DESCRIPTOR.fields)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("127000", 0.127, id="microseconds"),
        pytest.param("0", 0.0, id="zero"),
        pytest.param("-", None, id="absent"),
        pytest.param("", None, id="empty"),
        pytest.param("-5", None, id="negative"),
        pytest.param("nan", None, id="not-a-number"),
        pytest.param("inf", None, id="infinite"),
        pytest.param("1e300", None, id="absurd"),
        pytest.param("12ms", None, id="with-a-unit"),
    ],
)
def test_times_of_tags(value: str, expected: float | None) -> None:
    result = completed(entry(tags={"ttft_us": value, "body_us": value}))
    assert result.ttft_seconds == pytest.approx(expected) if expected is not None else result.ttft_seconds is None
    assert (result.body_seconds is None) == (expected is None)


def test_a_missing_duration_is_taken_from_the_last_byte() -> None:
    made = entry()
    made.common_properties.ClearField("duration")
    made.common_properties.time_to_last_downstream_tx_byte.FromMicroseconds(90_000)
    assert completed(made).duration_seconds == pytest.approx(0.09)
    made.common_properties.time_to_last_downstream_tx_byte.seconds = -3
    assert completed(made).duration_seconds == 0.0


@pytest.mark.parametrize(
    ("content_type", "metadata", "expected"),
    [
        pytest.param("text/event-stream", {"streaming": "false"}, True, id="the-answer-decides"),
        pytest.param("application/json", {"streaming": "true"}, False, id="an-error-instead-of-a-stream"),
        pytest.param("", {"streaming": "true"}, True, id="asked-for"),
        pytest.param("", {"streaming": False}, False, id="asked-for-as-a-boolean"),
        pytest.param("", {"streaming": 3.0}, None, id="wrong-type"),
        pytest.param("", {}, None, id="unknown"),
    ],
)
def test_streaming(content_type: str, metadata: dict[str, object], expected: bool | None) -> None:
    made = entry(metadata=metadata)
    if content_type:
        made.response.response_headers["content-type"] = content_type
    assert completed(made).streaming is expected


def test_metadata_of_the_wrong_type_is_unknown() -> None:
    result = completed(
        entry(metadata={"correlation-id": 5.0, "model": [], "pool": {"a": 1}, "usage-prompt-tokens": "x"})
    )
    assert (result.correlation_id, result.model, result.pool, result.usage) == ("", "", "", Usage())


def test_the_clients_path_is_kept_after_a_rewrite() -> None:
    made = entry()
    made.request.path = "/v1/completions"
    made.request.original_path = "/team/v1/completions?a=b"
    assert completed(made).path == "/team/v1/completions"


def test_a_long_request_id_is_cut() -> None:
    assert completed(entry(request_id="r" * 50_000)).request_id == "r" * 128


@pytest.mark.parametrize("number", [9, 26], ids=["request-id", "stream-id"])
def test_a_clients_bytes_in_envoys_own_fields_spoil_nothing(number: int) -> None:
    made = entry(request_id="r-1")
    field = bytes([number << 3 & 0x7F | 2 | (0x80 if number > 15 else 0), *([number >> 4] if number > 15 else [])])
    not_utf_8 = field + b"\x02\xff\xfe"
    part = made.request if number == 9 else made.common_properties
    part.MergeFromString(not_utf_8)
    again = type(made).FromString(made.SerializeToString())
    assert completed(again).request_id == "r-1"


def test_known_methods_have_their_names() -> None:
    made = entry()
    for name, number in core.RequestMethod.items():
        made.request.request_method = number
        assert completed(made).method == (name if number else "")


def test_flags_that_are_there_and_empty_are_none() -> None:
    made = entry()
    made.common_properties.response_flags.SetInParent()
    assert completed(made).flags == ""


def test_usage_without_prompt_and_completion_is_unknown() -> None:
    assert completed(entry(metadata={"usage-cached-tokens": 4.0, "usage-total-tokens": 9.0})).usage == Usage()


@pytest.mark.parametrize("method", [0, 77])
def test_an_unknown_method_is_empty(method: int) -> None:
    made = entry()
    made.request.request_method = method
    assert completed(made).method == ""


@given(
    st.sampled_from([REQUEST, ATTEMPT, ""]),
    st.integers(min_value=0, max_value=20),
    st.dictionaries(
        st.sampled_from(["ttft_us", "body_us", "flags", "host", "attempt_first_byte_us"]),
        st.sampled_from(["", "-", "nan", "DC", "1", "10.0.0.1:1", "\u2603", "9" * 400]),
    ),
    st.dictionaries(
        st.sampled_from(["correlation-id", "streaming", "usage-prompt-tokens", "usage-completion-tokens"]),
        st.sampled_from([None, True, "x", 1.0, -1.0, math.nan, math.inf, 1e300, [1], {"a": None}]),
    ),
    st.tuples(st.sampled_from([0, 1, -(2**63), 2**63 - 1]), st.sampled_from([0, -(2**31), 2**31 - 1])),
)
def test_no_entry_raises(
    log_name: str, kind: int, tags: dict[str, str], metadata: dict[str, object], time: tuple[int, int]
) -> None:
    made = entry(kind, tags=tags)
    struct = Struct()
    struct.update(metadata)
    made.common_properties.metadata.filter_metadata[OWN].CopyFrom(struct)
    made.common_properties.duration.seconds, made.common_properties.duration.nanos = time
    made.common_properties.start_time.seconds, made.common_properties.start_time.nanos = time
    result = read_entry(made, log_name)
    if isinstance(result, CompletedRequest):
        assert 0 <= result.duration_seconds <= 1e9
        assert result.started_at >= 0


def typed(status: int, *, prompt: int, completion: int) -> TokenUsage:
    record = TokenUsage(extraction_status=status)
    record.input_tokens.value, record.output_tokens.value = prompt, completion
    record.total_tokens.value = prompt + completion
    return record


UNTYPED = {"usage-prompt-tokens": 10.0, "usage-completion-tokens": 5.0}


@pytest.mark.parametrize(
    ("record", "numbers", "expected"),
    [
        pytest.param(typed(TokenUsage.COMPLETE, prompt=3, completion=4), UNTYPED, Usage(3, 4, 7), id="complete-record"),
        pytest.param(typed(TokenUsage.PARTIAL, prompt=3, completion=4), UNTYPED, Usage(10, 5, 15), id="partial-record"),
        pytest.param(typed(TokenUsage.PARTIAL, prompt=3, completion=4), {}, Usage(3, 4, 7), id="only-a-partial-record"),
        pytest.param(TokenUsage(extraction_status=TokenUsage.FAILED), UNTYPED, Usage(10, 5, 15), id="failed-record"),
        pytest.param(TokenUsage(extraction_status=TokenUsage.COMPLETE), UNTYPED, Usage(10, 5, 15), id="empty-record"),
        pytest.param(None, UNTYPED, Usage(10, 5, 15), id="only-numbers"),
        pytest.param(None, {}, Usage(), id="neither"),
    ],
)
def test_which_usage_is_believed(record: TokenUsage | None, numbers: dict[str, object], expected: Usage) -> None:
    made = entry(metadata=numbers)
    if record is not None:
        made.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"].Pack(record)
    assert completed(made).usage == expected


def test_a_typed_record_carries_details_and_the_stated_total() -> None:
    record = typed(TokenUsage.COMPLETE, prompt=10, completion=5)
    record.provider_total_tokens.value = 16
    record.input_token_details.cached_tokens.value = 4
    record.output_token_details.reasoning_tokens.value = 2
    made = entry()
    made.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"].Pack(record)
    assert completed(made).usage == Usage(10, 5, 16, cached_tokens=4, reasoning_tokens=2)


@pytest.mark.parametrize(
    ("type_url", "value"),
    [
        pytest.param("type.googleapis.com/envoy.data.ai.v3.TokenUsage", b"\xff\xff", id="broken"),
        pytest.param("type.googleapis.com/some.thing.Else", b"", id="another-type"),
        pytest.param("", b"", id="no-type"),
    ],
)
def test_an_unreadable_record_is_left_out(type_url: str, value: bytes) -> None:
    made = entry(metadata=UNTYPED)
    packed = made.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"]
    packed.type_url, packed.value = type_url, value
    assert completed(made).usage == Usage(10, 5, 15)


def test_absurd_counts_of_a_record_are_unknown() -> None:
    made = entry()
    record = typed(TokenUsage.COMPLETE, prompt=2**63, completion=4)
    made.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"].Pack(record)
    assert completed(made).usage.prompt_tokens is None


@pytest.mark.parametrize(
    ("path", "numbers", "expected"),
    [
        pytest.param(
            "/v1/messages", {"cached": 4, "cache-write": 3}, Usage(18, 7, 25, cached_tokens=4), id="anthropic"
        ),
        pytest.param("/v1/messages", {"cached": 4}, Usage(15, 7, 22, cached_tokens=4), id="anthropic-without-writes"),
        pytest.param("/v1/messages?beta=true", {"cached": 4}, Usage(15, 7, 22, cached_tokens=4), id="with-a-query"),
        pytest.param("/v1/messages", {}, Usage(11, 7, 18), id="anthropic-without-cache"),
        pytest.param("/v1/chat/completions", {"cached": 4}, Usage(11, 7, 18, cached_tokens=4), id="openai"),
        pytest.param("/chat", {"cache-write": 3}, Usage(14, 7, 21), id="cache-writes-are-anthropics-anywhere"),
        pytest.param("/v1/responses", {"total": 20, "reasoning": 2}, Usage(11, 7, 20, None, 2), id="stated-total"),
    ],
)
def test_prompt_tokens_include_cached_ones(path: str, numbers: dict[str, float], expected: Usage) -> None:
    stated = {"prompt": 11, "completion": 7, **numbers}
    made = entry(metadata={f"usage-{name}-tokens": float(count) for name, count in stated.items()})
    made.request.path = path
    assert completed(made).usage == expected


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0, 1e300])
def test_a_number_that_is_no_count_is_unknown(number: float) -> None:
    assert completed(entry(metadata={"usage-prompt-tokens": number})).usage == Usage()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, 1), id="valid"),
        pytest.param("garbage", None, id="invalid"),
        pytest.param("", None, id="absent"),
    ],
)
def test_the_trace_is_the_one_that_was_sent_on(header: str, expected: TraceContext | None) -> None:
    made = entry(metadata={"trace-origin": "0" * 16})
    if header:
        made.request.request_headers["traceparent"] = header
    assert completed(made).trace == expected
    assert completed(made).trace_origin == "0" * 16
    made.common_properties.access_log_type = access_log.UpstreamEnd
    made.common_properties.start_time.FromMilliseconds(1_700_000_000_500)
    assert attempt(made).trace == expected
    assert attempt(made).started_at == pytest.approx(1_700_000_000.5)
    made.common_properties.access_log_type = access_log.DownstreamPeriodic
    progress = read_entry(made, REQUEST)
    assert isinstance(progress, Attempt)
    assert progress.trace == expected
