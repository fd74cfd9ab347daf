"""Messages of a data plane, and readings of the picker's answers, for tests."""

from collections.abc import Iterable, Mapping
from typing import Any

from endpoint_picker.extproc.messages import ProcessingRequest, ProcessingResponse
from endpoint_picker.requestcontrol.exchange import Forward
from envoy_config import names

FORWARD = Forward("c-1", "req-1", "route", "cluster", addresses=("10.0.0.1:80", "10.0.0.2:80"))


def request_headers(
    mode: int | None = None, *, response_mode: int = 0, end: bool = False, **headers: str
) -> ProcessingRequest:
    message = ProcessingRequest()
    named = {":method": "POST", ":path": "/v1/x?a=1", ":authority": "h", **headers}
    for name, value in named.items():
        header = message.request_headers.headers.headers.add()
        header.key, header.raw_value = name.replace("_", "-"), value.encode()
    message.request_headers.end_of_stream = end
    if mode is not None:
        message.protocol_config.request_body_mode = mode  # type: ignore[assignment]
        message.protocol_config.response_body_mode = response_mode  # type: ignore[assignment]
    return message


def request_body(body: bytes = b"", *, end: bool = True) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_body.body, message.request_body.end_of_stream = body, end
    return message


def request_trailers() -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_trailers.SetInParent()
    return message


def response_headers(
    status: str = "200", *, end: bool = False, kind: str = "application/json", served: str = ""
) -> ProcessingRequest:
    message = ProcessingRequest()
    for name, value in ((":status", status), ("content-type", kind)):
        header = message.response_headers.headers.headers.add()
        header.key, header.raw_value = name, value.encode()
    message.response_headers.end_of_stream = end
    if served:
        lb = message.metadata_context.filter_metadata[names.LB_NAMESPACE]
        lb.fields[names.SERVED_KEY].string_value = served
    return message


def response_body(body: bytes = b"", *, end: bool = False) -> ProcessingRequest:
    message = ProcessingRequest()
    message.response_body.body, message.response_body.end_of_stream = body, end
    return message


def response_trailers() -> ProcessingRequest:
    message = ProcessingRequest()
    message.response_trailers.SetInParent()
    return message


def kinds(answers: Iterable[ProcessingResponse]) -> list[str | None]:
    return [answer.WhichOneof("response") for answer in answers]


def header_changes(answer: ProcessingResponse) -> Mapping[str, str]:
    phase: Any = getattr(answer, str(answer.WhichOneof("response")))
    return {
        option.header.key: option.header.raw_value.decode() for option in phase.response.header_mutation.set_headers
    }


def streamed(answers: Iterable[ProcessingResponse]) -> list[tuple[bytes, bool]]:
    """Return body and end of stream of every full-duplex chunk."""
    found = []
    for answer in answers:
        kind = answer.WhichOneof("response")
        if kind in ("request_body", "response_body"):
            chunk = getattr(answer, kind).response.body_mutation.streamed_response
            found.append((chunk.body, chunk.end_of_stream))
    return found
