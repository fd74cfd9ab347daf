"""Reading a request body: one decoding, then only what admission, routing and scheduling need."""

import re
from collections.abc import Mapping
from typing import Final

from endpoint_picker.domain.errors import EncodedBody, InvalidRequest, RequestTooLarge
from endpoint_picker.requestcontrol.body.dialects import check_required, read_output_limit, write_prompt
from endpoint_picker.requestcontrol.body.document import decode
from endpoint_picker.requestcontrol.body.kinds import BodyKind, kind_of, takes_form
from endpoint_picker.requestcontrol.body.modelname import check_model
from endpoint_picker.requestcontrol.body.multipart import is_form, read_form
from endpoint_picker.requestcontrol.body.parsed import BodyFormat, BodyLimits, ParsedBody
from endpoint_picker.requestcontrol.body.prompt import PromptWriter
from endpoint_picker.requestcontrol.body.tokens import AUDIO_TOKENS, IMAGE_TOKENS

_ENCODED: Final = "the request body must come without content-encoding"
_OBJECT_START_ANYHOW: Final = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?+[ \t\n\r\0]*+\{")
"""An object as lenient readers see one: after a byte order mark, in UTF-16 or UTF-32."""


def read_body(
    body: bytes, *, path: str, content_type: str, content_encoding: str = "", limits: BodyLimits
) -> ParsedBody:
    """Read what the picker needs of *body*; the body itself is not changed and not kept.

    A path that no known API has is not refused here: its body passes as it is, whatever its size, and its model is used
    if it is an object that names one. Where it looks as if a more lenient reader found a model in it, `unreadable`
    says why none was read. For the known APIs, whatever a model server would judge itself is left to it.

    Args:
        body: The whole request body.
        path: Request path, with or without query and prefix.
        content_type: The content-type header, empty if there is none; matters for forms only.
        content_encoding: The content-encoding header, empty if there is none.
        limits: How much a body may ask for.

    Raises:
        RequestTooLarge: The body is larger than the limit.
        EncodedBody: The body is compressed.
        InvalidRequest: The body cannot be read, or lacks what its API needs.
    """
    kind = kind_of(path)
    encoded = "" if content_encoding.strip().lower() in {"", "identity"} else _ENCODED
    if kind is BodyKind.OTHER:
        return ParsedBody(BodyKind.OTHER, unreadable=encoded) if encoded else _read_other(body, limits)
    if len(body) > limits.max_bytes:
        msg = f"the request body has {len(body)} bytes, the limit is {limits.max_bytes}"
        raise RequestTooLarge(msg, limit_bytes=limits.max_bytes)
    if encoded:
        raise EncodedBody(encoded)
    if takes_form(path) and not _is_json(content_type):
        return _read_form(body, content_type, kind)
    document = decode(body, limits)
    if not isinstance(document, dict):
        msg = "the request body must be a JSON object"
        raise InvalidRequest(msg)
    return _read_document(document, kind, limits)


def _read_other(body: bytes, limits: BodyLimits) -> ParsedBody:
    if not _OBJECT_START_ANYHOW.match(body):
        return ParsedBody(BodyKind.OTHER)
    if len(body) > limits.max_bytes:
        return ParsedBody(BodyKind.OTHER, unreadable=f"the request body is larger than {limits.max_bytes} bytes")
    try:
        document = decode(body, limits)
        model = check_model(document.get("model") if isinstance(document, dict) else None, BodyKind.OTHER)
    except InvalidRequest as error:
        return ParsedBody(BodyKind.OTHER, unreadable=str(error))
    if not model:
        return ParsedBody(BodyKind.OTHER)
    return ParsedBody(BodyKind.OTHER, model=model, format=BodyFormat.JSON)


def _read_form(body: bytes, content_type: str, kind: BodyKind) -> ParsedBody:
    if not is_form(content_type):
        msg = "the request must be sent as multipart/form-data"
        raise InvalidRequest(msg)
    form = read_form(body, content_type, kind)
    return ParsedBody(
        kind,
        model=form.model,
        streaming=form.streaming,
        prompt_tokens=AUDIO_TOKENS if kind is BodyKind.AUDIO else IMAGE_TOKENS,
        format=BodyFormat.MULTIPART,
        model_span=form.model_span,
    )


def _read_document(document: Mapping[str, object], kind: BodyKind, limits: BodyLimits) -> ParsedBody:
    model = check_model(document.get("model"), kind)
    streaming = document.get("stream")
    if streaming is not None and not isinstance(streaming, bool):
        msg = "the `stream` parameter must be true or false"
        raise InvalidRequest(msg, param="stream")
    check_required(document, kind)
    options = document.get("stream_options")
    writer = PromptWriter(limits.max_prompt_bytes)
    write_prompt(writer, document, kind)
    return ParsedBody(
        kind,
        model=model,
        streaming=streaming is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_output_tokens=read_output_limit(document),
        prompt=writer.prompt,
        prompt_tokens=writer.prompt_tokens,
        format=BodyFormat.JSON,
        has_stream_options="stream_options" in document,
    )


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"
