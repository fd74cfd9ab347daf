"""What a data plane writes is read leniently, and what we write replaces what a client sent."""

from dataclasses import replace
from typing import Any

import pytest
from ext_proc_messages import FORWARD, request_headers, response_headers

from endpoint_picker.extproc import messages
from endpoint_picker.protos import core_pb2
from endpoint_picker.requestcontrol.exchange import Answer, SpanHeaders
from envoy_config import names
from inference_resolution.resolved import HeaderChange


def hinted(value: Any) -> messages.ProcessingRequest:
    message = request_headers()
    message.metadata_context.filter_metadata[names.SUBSET_NAMESPACE].update({names.SUBSET_KEY: value})
    return message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(["10.0.0.1:80", "10.0.0.2:80"], {"10.0.0.1:80", "10.0.0.2:80"}, id="list"),
        pytest.param("10.0.0.1:80, 10.0.0.2:80", {"10.0.0.1:80", "10.0.0.2:80"}, id="comma-string"),
        pytest.param(["a:1,b:2", " c:3 "], {"a:1", "b:2", "c:3"}, id="commas-within-items"),
        pytest.param("[::1]:80", {"[::1]:80"}, id="ipv6"),
        pytest.param("", set(), id="empty-string"),
        pytest.param([], set(), id="empty-list"),
        pytest.param(7, set(), id="a-number"),
    ],
)
def test_subset_hints(value: Any, expected: set[str]) -> None:
    assert messages.read_head(hinted(value)).subset == expected


def test_no_hint_is_no_restriction() -> None:
    assert messages.read_head(request_headers()).subset is None
    message = request_headers()
    message.metadata_context.filter_metadata[names.SUBSET_NAMESPACE].update({"other": "x"})
    assert messages.read_head(message).subset is None


def test_the_head() -> None:
    message = request_headers(X_A="1")
    again = message.request_headers.headers.headers.add()
    again.key, again.value = "x-a", "2"  # a data plane of the older form
    message.attributes["envoy.filters.http.ext_proc"].update({"xds.route_name": "r", "xds.virtual_host_name": "v"})
    head = messages.read_head(message)
    assert (head.method, head.path, head.authority, head.route, head.virtual_host) == (
        "POST",
        "/v1/x?a=1",
        "h",
        "r",
        "v",
    )
    assert head.headers == {"x-a": "1,2"}


def test_the_data_planes_own_id_is_no_header_of_the_client() -> None:
    head = messages.read_head(request_headers(**{names.STREAM_ID_HEADER: "s-1"}))
    assert (head.stream_id, head.headers) == ("s-1", {})
    assert messages.read_head(request_headers()).stream_id == ""


def test_bytes_beyond_text_are_kept_readable() -> None:
    message = request_headers()
    header = message.request_headers.headers.headers.add()
    header.key, header.raw_value = "X-Raw", b"\xff"
    assert messages.read_head(message).headers["x-raw"] == "\xff"


def test_the_served_endpoint() -> None:
    assert messages.read_served(response_headers(served="10.0.0.1:80")) == "10.0.0.1:80"
    assert messages.read_served(response_headers()) == ""
    message = response_headers()
    message.metadata_context.filter_metadata[names.LB_NAMESPACE].update({"other": "x"})
    assert messages.read_served(message) == ""


def test_a_backends_changes_come_before_ours() -> None:
    change = HeaderChange(set=(("a", "é"), (names.ROUTE_HEADER, "x")), add=(("b", "2"),), remove=("c",))
    mutation = messages.forward_at_headers(replace(FORWARD, changes=change)).request_headers.response.header_mutation
    written = [(o.header.key, o.header.raw_value, o.append_action) for o in mutation.set_headers]
    overwrite = core_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    assert written[:3] == [
        ("a", "é".encode(), overwrite),
        (names.ROUTE_HEADER, b"x", overwrite),
        ("b", b"2", core_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD),
    ]
    assert (names.ROUTE_HEADER, b"route", overwrite) in written[3:]
    assert list(mutation.remove_headers) == ["c"]


def test_flags_and_texts_become_metadata() -> None:
    forward = replace(FORWARD, metadata=(("text", "1"), ("flag", True)), addresses=())
    fields = messages.forward_at_headers(forward).dynamic_metadata.fields
    own = fields[names.METADATA_NAMESPACE].struct_value.fields
    assert (own["text"].string_value, own["flag"].bool_value) == ("1", True)
    assert names.LB_NAMESPACE not in fields


def test_an_answer_of_ours() -> None:
    reply = messages.immediate(Answer(503, b"{}", "c", (("retry-after", "1"),))).immediate_response
    written = {o.header.key: o.header.raw_value for o in reply.headers.set_headers}
    assert (reply.status.code, reply.body, reply.details) == (503, b"{}", names.ANSWERED_BY_PICKER)
    assert written == {"content-type": b"application/json", "retry-after": b"1"}


@pytest.mark.parametrize("chunk", [None, b"", b"x"])
def test_a_response_chunk_is_left_emptied_or_replaced(chunk: bytes | None) -> None:
    common = messages.response_chunk(chunk).response_body.response
    assert common.HasField("body_mutation") == (chunk is not None)
    assert common.body_mutation.clear_body == (chunk == b"")
    assert common.body_mutation.body == (chunk or b"")


def test_answers_that_have_much_in_common_share_nothing_that_changes() -> None:
    first = messages.forward_at_body(replace(FORWARD, body=b"{}"), sized=True)
    first.request_body.response.header_mutation.set_headers[0].header.raw_value = b"spoilt"
    second = messages.forward_at_body(replace(FORWARD, correlation_id="c-2", request_id="req-2"), sized=True)
    headers = {h.header.key: h.header.raw_value for h in second.request_body.response.header_mutation.set_headers}
    assert b"spoilt" not in headers.values()
    assert headers["x-request-id"] == b"req-2"
    assert "content-length" not in headers
    ours = second.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value.fields
    assert ours[names.CORRELATION_ID].string_value == "c-2"


SPAN = SpanHeaders("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b", "-01")


@pytest.mark.parametrize("at_headers", [True, False])
def test_the_trace_goes_on_by_header_and_by_metadata(at_headers: bool) -> None:
    forward = replace(FORWARD, span=replace(SPAN, origin="00f067aa0ba902b7", drops_state=True))
    if at_headers:
        answer = messages.forward_at_headers(forward)
        mutation = answer.request_headers.response.header_mutation
    else:
        answer = messages.forward_at_body(forward, sized=False)
        mutation = answer.request_body.response.header_mutation
    sent = {option.header.key: option for option in mutation.set_headers}
    assert sent["traceparent"].header.raw_value.decode() == f"{SPAN.parent}1-01"
    assert sent["traceparent"].append_action == core_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    assert list(mutation.remove_headers) == ["tracestate"]
    ours = answer.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value.fields
    values = {key: ours[key].string_value for key in (names.TRACE_PARENT, names.TRACE_FLAGS, names.TRACE_ORIGIN)}
    assert list(values.values()) == [SPAN.parent, "-01", "00f067aa0ba902b7"]


@pytest.mark.parametrize("span", [None, SPAN])
def test_what_is_not_to_change_of_a_trace_does_not(span: SpanHeaders | None) -> None:
    answer = messages.forward_at_body(replace(FORWARD, span=span), sized=False)
    mutation = answer.request_body.response.header_mutation
    assert ("traceparent" in {option.header.key for option in mutation.set_headers}) is (span is not None)
    assert list(mutation.remove_headers) == []
    ours = answer.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value.fields
    assert names.TRACE_ORIGIN not in ours
