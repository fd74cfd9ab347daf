"""Envoy's messages read into our words, and our answers written as Envoy's messages."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from endpoint_picker.protos import core_pb2, ext_proc_pb2
from endpoint_picker.requestcontrol.exchange import Answer, Forward, RequestHead, SpanHeaders
from envoy_config import names
from inference_resolution.resolved import HeaderChange

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
        key = header.key.lower()
        value = header.raw_value.decode("latin-1") or header.value
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers


def read_head(message: ProcessingRequest) -> RequestHead:
    """Return the head of a request from its first message."""
    headers = read_headers(message.request_headers.headers)
    method, path, authority = headers.pop(":method", ""), headers.pop(":path", "/"), headers.pop(":authority", "")
    headers.pop(":scheme", None)
    stream_id = headers.pop(names.STREAM_ID_HEADER, "")
    route = virtual_host = ""
    # `get`, because indexing a protobuf map adds what is missing
    attributes = message.attributes.get(_ATTRIBUTES)
    if attributes is not None:
        fields = attributes.fields
        if (value := fields.get("xds.route_name")) is not None:
            route = value.string_value
        if (value := fields.get("xds.virtual_host_name")) is not None:
            virtual_host = value.string_value
    return RequestHead(
        method=method,
        path=path,
        authority=authority,
        headers=headers,
        route=route,
        virtual_host=virtual_host,
        subset=read_subset(message),
        stream_id=stream_id,
    )


def read_subset(message: ProcessingRequest) -> frozenset[str] | None:
    """Return the subset hint: a list, a comma-separated string or a mix of both; None if there is none."""
    if not message.HasField("metadata_context"):
        return None
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


def _fill_struct(target: Struct, values: Iterable[tuple[str, str | bool]]) -> None:
    for key, value in values:
        if isinstance(value, bool):
            target.fields[key].bool_value = value
        else:
            target.fields[key].string_value = value


def _change_headers(mutation: ext_proc_pb2.HeaderMutation, changes: HeaderChange) -> None:
    for name, value in changes.set:
        _set(mutation, name, value)
    for name, value in changes.add:
        option = mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode("utf-8")
        option.append_action = _APPEND
    mutation.remove_headers.extend(changes.remove)


@lru_cache(maxsize=1024)
def _common_part(
    route: str, cluster: str, endpoints: int, metadata: tuple[tuple[str, str | bool], ...]
) -> ProcessingResponse:
    """Return what the answers of many requests have in common; copied, never changed."""
    response = ProcessingResponse()
    common = response.request_body.response
    common.clear_route_cache = True
    mutation = common.header_mutation
    if endpoints:
        _set(mutation, "x-envoy-max-retries", str(endpoints - 1))
    if cluster:
        _set(mutation, names.CLUSTER_HEADER, cluster)
    _set(mutation, names.ROUTE_HEADER, route)
    _fill_struct(response.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value, metadata)
    return response


def _forwarded(response: ProcessingResponse, forward: Forward) -> ext_proc_pb2.HeaderMutation:
    """Fill in an answer to a body that sends the request on; return its header changes, which may be added to."""
    changes = forward.changes  # first, so that none of them can replace a header of ours
    if changes.set or changes.add or changes.remove:
        _change_headers(response.request_body.response.header_mutation, changes)
    response.MergeFrom(_common_part(forward.route, forward.cluster, len(forward.addresses), forward.metadata))
    mutation = response.request_body.response.header_mutation
    fields = response.dynamic_metadata.fields
    if forward.addresses:
        destination = ",".join(forward.addresses)
        _set(mutation, names.DESTINATION_KEY, destination)
        fields[names.LB_NAMESPACE].struct_value.fields[names.DESTINATION_KEY].string_value = destination
    _set(mutation, names.REQUEST_ID_HEADER, forward.request_id)
    ours = fields[names.METADATA_NAMESPACE].struct_value.fields
    ours[names.CORRELATION_ID].string_value = forward.correlation_id
    if forward.span is not None:
        _set_span(mutation, fields[names.METADATA_NAMESPACE].struct_value, forward.span)
    return mutation


def _set_span(mutation: ext_proc_pb2.HeaderMutation, ours: Struct, span: SpanHeaders) -> None:
    """Put the request into a trace: by header for all, by metadata for those that tell attempts apart."""
    _set(mutation, names.TRACEPARENT_HEADER, f"{span.parent}1{span.flags}")
    if span.drops_state:
        mutation.remove_headers.append(names.TRACESTATE_HEADER)
    ours.fields[names.TRACE_PARENT].string_value = span.parent
    ours.fields[names.TRACE_FLAGS].string_value = span.flags
    if span.origin:
        ours.fields[names.TRACE_ORIGIN].string_value = span.origin


def forward_at_headers(forward: Forward, *, content_length: int | None = None) -> ProcessingResponse:
    """Return the answer to the request headers that sends the request on."""
    at_body = ProcessingResponse()
    mutation = _forwarded(at_body, forward)
    if content_length is not None:
        _set(mutation, "content-length", str(content_length))
    response = ProcessingResponse(dynamic_metadata=at_body.dynamic_metadata)
    response.request_headers.response.CopyFrom(at_body.request_body.response)
    return response


def forward_at_body(forward: Forward, *, sized: bool) -> ProcessingResponse:
    """Return the answer to a buffered request body that sends the request on.

    *sized*: the client sent a content-length, which must then be that of a changed body; Envoy refuses a mismatch.
    """
    response = ProcessingResponse()
    mutation = _forwarded(response, forward)
    if forward.body is not None:
        response.request_body.response.body_mutation.body = forward.body
        if sized:
            _set(mutation, "content-length", str(len(forward.body)))
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
    ours = response.dynamic_metadata.fields[names.METADATA_NAMESPACE].struct_value.fields
    ours[names.CORRELATION_ID].string_value = answer.correlation_id
    return response


def _nothing_at_request_headers() -> ProcessingResponse:
    response = ProcessingResponse()
    response.request_headers.response.SetInParent()
    return response


_GO_ON_REQUEST_HEADERS: Final = _nothing_at_request_headers()


def go_on_request_headers() -> ProcessingResponse:
    """Return the answer to request headers that changes nothing: one message for all, not to be written to."""
    return _GO_ON_REQUEST_HEADERS


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
