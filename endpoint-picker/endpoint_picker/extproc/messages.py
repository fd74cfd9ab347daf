"""Envoy's messages read into our words, and our answers written as Envoy's messages."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from endpoint_picker.protos import core_pb2, ext_proc_pb2
from endpoint_picker.requestcontrol.exchange import Answer, Forward, RequestHead
from envoy_config import names

ProcessingRequest = ext_proc_pb2.ProcessingRequest
ProcessingResponse = ext_proc_pb2.ProcessingResponse

CHUNK_BYTES: Final = 62_000
"""Largest body chunk of an answer in full duplex; Envoy advises at most 64 KiB."""

_OVERWRITE: Final = core_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_APPEND: Final = core_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
_ATTRIBUTES: Final = "envoy.filters.http.ext_proc"


def read_headers(header_map: core_pb2.HeaderMap) -> dict[str, str]:
    """Return headers by lower-case name; repeated ones are joined by a comma, bytes above ASCII read as Latin-1."""
    headers: dict[str, str] = {}
    for header in header_map.headers:
        value = header.raw_value.decode("latin-1") or header.value
        key = header.key.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers


def read_head(message: ProcessingRequest) -> RequestHead:
    """Return the head of a request from its first message."""
    headers = read_headers(message.request_headers.headers)
    method, path, authority = headers.pop(":method", ""), headers.pop(":path", "/"), headers.pop(":authority", "")
    headers.pop(":scheme", None)
    route = virtual_host = ""
    if _ATTRIBUTES in message.attributes:
        fields = message.attributes[_ATTRIBUTES].fields
        if "xds.route_name" in fields:
            route = fields["xds.route_name"].string_value
        if "xds.virtual_host_name" in fields:
            virtual_host = fields["xds.virtual_host_name"].string_value
    return RequestHead(
        method=method,
        path=path,
        authority=authority,
        headers=headers,
        route=route,
        virtual_host=virtual_host,
        subset=read_subset(message),
    )


def read_subset(message: ProcessingRequest) -> frozenset[str] | None:
    """Return the subset hint: a list, a comma-separated string or a mix of both; None if there is none."""
    if names.SUBSET_NAMESPACE not in message.metadata_context.filter_metadata:
        return None
    fields = message.metadata_context.filter_metadata[names.SUBSET_NAMESPACE].fields
    if names.SUBSET_KEY not in fields:
        return None
    return frozenset(_addresses(fields[names.SUBSET_KEY]))


def _addresses(value: Value) -> Iterator[str]:
    items = value.list_value.values if value.HasField("list_value") else [value]
    for item in items:
        for address in item.string_value.split(","):
            if stripped := address.strip():
                yield stripped


def read_served(message: ProcessingRequest) -> str:
    """Return the endpoint that the data plane says it used, empty if it does not say."""
    fields = message.metadata_context.filter_metadata
    if names.LB_NAMESPACE not in fields:
        return ""
    namespace = fields[names.LB_NAMESPACE].fields
    return namespace[names.SERVED_KEY].string_value if names.SERVED_KEY in namespace else ""


def _set(mutation: ext_proc_pb2.HeaderMutation, name: str, value: str) -> None:
    option = mutation.set_headers.add()
    option.header.key = name
    option.header.raw_value = value.encode("utf-8")
    option.append_action = _OVERWRITE


def _fill_struct(target: Struct, values: Mapping[str, str | bool]) -> None:
    for key, value in values.items():
        if isinstance(value, bool):
            target.fields[key].bool_value = value
        else:
            target.fields[key].string_value = value


def _change_headers(mutation: ext_proc_pb2.HeaderMutation, forward: Forward) -> None:
    """Write the backend's changes first, so that none of them can replace a header of ours."""
    for name, value in forward.changes.set:
        _set(mutation, name, value)
    for name, value in forward.changes.add:
        option = mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode("utf-8")
        option.append_action = _APPEND
    mutation.remove_headers.extend(forward.changes.remove)
    destination = ",".join(forward.addresses)
    if destination:
        _set(mutation, names.DESTINATION_KEY, destination)
        _set(mutation, "x-envoy-max-retries", str(len(forward.addresses) - 1))
    if forward.cluster:
        _set(mutation, names.CLUSTER_HEADER, forward.cluster)
    _set(mutation, names.ROUTE_HEADER, forward.route)
    _set(mutation, names.REQUEST_ID_HEADER, forward.request_id)


def _forwarded(common: ext_proc_pb2.CommonResponse, response: ProcessingResponse, forward: Forward) -> None:
    common.clear_route_cache = True
    _change_headers(common.header_mutation, forward)
    lb = {names.DESTINATION_KEY: ",".join(forward.addresses)} if forward.addresses else {}
    if lb:
        _fill_struct(response.dynamic_metadata.fields[names.LB_NAMESPACE].struct_value, lb)
    metadata = forward.metadata or {names.CORRELATION_ID: forward.correlation_id}
    _fill_struct(response.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value, metadata)


def forward_at_headers(forward: Forward, *, content_length: int | None = None) -> ProcessingResponse:
    """Return the answer to the request headers that sends the request on."""
    response = ProcessingResponse()
    common = response.request_headers.response
    _forwarded(common, response, forward)
    if content_length is not None:
        _set(common.header_mutation, "content-length", str(content_length))
    return response


def forward_at_body(forward: Forward, *, sized: bool) -> ProcessingResponse:
    """Return the answer to a buffered request body that sends the request on.

    *sized*: the client sent a content-length, which must then be that of a changed body; Envoy refuses a mismatch.
    """
    response = ProcessingResponse()
    common = response.request_body.response
    _forwarded(common, response, forward)
    if forward.body is not None:
        common.body_mutation.body = forward.body
        if sized:
            _set(common.header_mutation, "content-length", str(len(forward.body)))
    return response


def _chunks(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield *body* in chunks, each with whether it is the last; an empty body is one empty chunk."""
    view = memoryview(body)
    starts: Iterable[int] = range(0, len(body), CHUNK_BYTES) if body else (0,)
    for start in starts:
        yield bytes(view[start : start + CHUNK_BYTES]), start + CHUNK_BYTES >= len(body)


def streamed_request_body(body: bytes, *, end_of_stream: bool) -> Iterator[ProcessingResponse]:
    """Yield a request body as chunks of a full-duplex answer, the last one with *end_of_stream*."""
    for chunk, last in _chunks(body):
        response = ProcessingResponse()
        streamed = response.request_body.response.body_mutation.streamed_response
        streamed.body = chunk
        streamed.end_of_stream = end_of_stream and last
        yield response


def immediate(answer: Answer) -> ProcessingResponse:
    """Return the answer that ends the exchange here."""
    response = ProcessingResponse()
    reply = response.immediate_response
    reply.status.code = answer.status  # type: ignore[assignment]
    reply.body = answer.body
    reply.details = names.ANSWERED_BY_PICKER
    _set(reply.headers, "content-type", "application/json")
    for name, value in answer.headers:
        _set(reply.headers, name, value)
    metadata = {names.CORRELATION_ID: answer.correlation_id}
    _fill_struct(response.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value, metadata)
    return response


def go_on_request_headers() -> ProcessingResponse:
    """Return the answer to request headers that changes nothing."""
    response = ProcessingResponse()
    response.request_headers.response.SetInParent()
    return response


def go_on_request_body() -> ProcessingResponse:
    """Return the answer to a request body chunk that changes nothing."""
    response = ProcessingResponse()
    response.request_body.response.SetInParent()
    return response


def go_on_request_trailers() -> ProcessingResponse:
    """Return the answer to request trailers that changes nothing."""
    response = ProcessingResponse()
    response.request_trailers.SetInParent()
    return response


def go_on_response_headers(*, remove: tuple[str, ...] = ()) -> ProcessingResponse:
    """Return the answer to response headers, taking *remove* out."""
    response = ProcessingResponse()
    response.response_headers.response.SetInParent()
    if remove:
        response.response_headers.response.header_mutation.remove_headers.extend(remove)
    return response


def go_on_response_trailers() -> ProcessingResponse:
    """Return the answer to response trailers that changes nothing."""
    response = ProcessingResponse()
    response.response_trailers.SetInParent()
    return response


def response_chunk(chunk: bytes | None) -> ProcessingResponse:
    """Return the answer to a response body chunk; None leaves it as it is."""
    response = ProcessingResponse()
    common = response.response_body.response
    common.SetInParent()
    if chunk is not None:
        if chunk:
            common.body_mutation.body = chunk
        else:
            common.body_mutation.clear_body = True
    return response


def streamed_response_body(body: bytes, *, end_of_stream: bool) -> Iterator[ProcessingResponse]:
    """Yield response bytes as chunks of a full-duplex answer, the last one with *end_of_stream*."""
    for chunk, last in _chunks(body):
        response = ProcessingResponse()
        streamed = response.response_body.response.body_mutation.streamed_response
        streamed.body = chunk
        streamed.end_of_stream = end_of_stream and last
        yield response
