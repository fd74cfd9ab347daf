"""The model of a multipart/form-data body, as every reader of the format must see it.

Only the form that all parsers read alike is accepted: CRLF line ends, no preamble and no epilogue, every delimiter
well-formed, one plain Content-Disposition per part. What could be read in two ways is refused, so that the gateway
and the model server cannot see different models.

Source: RFC 7578 and RFC 2046 §5.1.1, narrowed.
"""

import re
from dataclasses import dataclass
from typing import Final

from endpoint_picker.domain.errors import InternalFailure, InvalidRequest
from endpoint_picker.requestcontrol.body.kinds import BodyKind
from endpoint_picker.requestcontrol.body.modelname import check_model
from endpoint_picker.requestcontrol.body.parsed import Span

MAX_PARTS: Final = 256
MAX_PART_HEADER_BYTES: Final = 8 * 1024

_PARAMETER: Final = rb';[ \t]*+([\w*-]++)=("(?:[^"\\]|\\.)*+"|[^\s";,=]++)[ \t]*+'
_PARAMETERS: Final = re.compile(_PARAMETER)
_FORM_TYPE: Final = re.compile(rb"multipart/form-data[ \t]*+(?:" + _PARAMETER + rb")*+;?", re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"form-data[ \t]*+(?:" + _PARAMETER + rb")*+", re.IGNORECASE)
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_HEADER_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([^\r\n\0]*+)")
_PLAIN_ENCODINGS: Final = frozenset({b"binary", b"8bit", b"7bit"})
_TRUE: Final = frozenset({"true", "1", "t", "yes", "y", "on"})


@dataclass(frozen=True, slots=True)
class Form:
    """What a form says: its model, where that stands, and whether a stream is asked for."""

    model: str
    model_span: Span
    streaming: bool


@dataclass(frozen=True, slots=True)
class _Part:
    name: bytes
    content: Span
    is_file: bool


def is_form(content_type: str) -> bool:
    """Return whether *content_type* announces multipart/form-data."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def read_form(body: bytes, content_type: str, kind: BodyKind) -> Form:
    """Read model and stream of a form; file contents are skipped, not copied.

    Raises:
        InvalidRequest: The form is malformed, ambiguous, has too many parts, or no single plain model field.
    """
    fields: dict[bytes, Span] = {}
    for part in _read_parts(body, _read_boundary(content_type)):
        if part.name not in (b"model", b"stream"):
            continue
        name = part.name.decode()
        if part.is_file:
            msg = f"the form field `{name}` must be a plain value, not a file"
            raise InvalidRequest(msg, param=name)
        if part.name in fields:
            msg = f"the form gives the field `{name}` twice"
            raise InvalidRequest(msg, param=name)
        fields[part.name] = part.content
    span = fields.get(b"model", Span(0, 0))
    model = check_model(_text(body, span, "model"), kind)
    stream = _text(body, fields.get(b"stream", Span(0, 0)), "stream")
    return Form(model, span, streaming=stream.strip().lower() in _TRUE)


def replace_model(body: bytes, span: Span, *, old: str, new: str) -> bytes:
    """Return the form with *new* in place of the model *old* at *span*, nothing else changed.

    Raises:
        InternalFailure: *old* is not there, or *new* would change the parts of the form.
    """
    value = new.encode()
    delimiter = b"\r\n" + body[: body.find(b"\r\n")]
    result = b"".join((body[: span.start], value, body[span.end :]))
    if (
        body[span.start : span.end] != old.encode()
        or b"\r" in value
        or b"\n" in value
        or result.count(delimiter) != body.count(delimiter)
    ):
        msg = "the model of the form could not be replaced"
        raise InternalFailure(msg)
    return result


def _read_boundary(content_type: str) -> bytes:
    raw = content_type.strip().encode(errors="replace")
    if not _FORM_TYPE.fullmatch(raw):
        msg = "the content-type header is malformed; send `multipart/form-data; boundary=…`"
        raise InvalidRequest(msg)
    values = [_unquote(value) for key, value in _PARAMETERS.findall(raw) if key.lower() == b"boundary"]
    if len(values) != 1 or not _BOUNDARY.fullmatch(values[0]):
        msg = "the content-type header must give one valid boundary for multipart/form-data"
        raise InvalidRequest(msg)
    return values[0]


def _read_parts(body: bytes, boundary: bytes) -> list[_Part]:
    opening = b"--" + boundary
    delimiter = b"\r\n" + opening
    if not body.startswith(opening + b"\r\n"):
        msg = "the form does not begin with its boundary and CRLF"
        raise InvalidRequest(msg)
    parts: list[_Part] = []
    start = len(opening) + 2
    while len(parts) < MAX_PARTS:
        end = body.find(delimiter, start)
        if end < 0:
            msg = "the form is truncated: its closing boundary is missing"
            raise InvalidRequest(msg)
        parts.append(_read_part(body, start, end))
        start = end + len(delimiter) + 2
        match body[start - 2 : start]:
            case b"\r\n":
                continue
            case b"--" if body[start : start + 3] in (b"", b"\r\n"):
                return parts
            case b"--":
                msg = "the form goes on after its closing boundary"
                raise InvalidRequest(msg)
            case _:
                msg = f"the form has a malformed boundary line at byte {end}"
                raise InvalidRequest(msg)
    msg = f"the form has more than {MAX_PARTS} parts"
    raise InvalidRequest(msg)


def _read_part(body: bytes, start: int, end: int) -> _Part:
    head_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_PART_HEADER_BYTES))
    if head_end < 0:
        msg = f"the form part at byte {start} has no header, or one of more than {MAX_PART_HEADER_BYTES} bytes"
        raise InvalidRequest(msg)
    disposition: bytes | None = None
    for line in body[start:head_end].split(b"\r\n"):
        header = _HEADER_LINE.fullmatch(line)
        name, value = (header[1].lower(), header[2].strip(b" \t")) if header else (b"", b"")
        if (
            not header
            or (name == b"content-disposition" and disposition is not None)
            or (name == b"content-transfer-encoding" and value.lower() not in _PLAIN_ENCODINGS)
        ):
            msg = f"the form part at byte {start} has a header that cannot be accepted"
            raise InvalidRequest(msg)
        if name == b"content-disposition":
            disposition = value
    if disposition is None or not _DISPOSITION.fullmatch(disposition):
        msg = f"the form part at byte {start} has no well-formed `Content-Disposition: form-data`"
        raise InvalidRequest(msg)
    parameters = [(key.lower(), _unquote(value)) for key, value in _PARAMETERS.findall(disposition)]
    keys = [key for key, _ in parameters]
    names = [value for key, value in parameters if key.startswith(b"name")]
    if len(set(keys)) != len(keys) or len(names) != 1 or b"name" not in keys or b"\\" in names[0]:
        msg = f"the form part at byte {start} must give one plain name"
        raise InvalidRequest(msg)
    is_file = any(key.startswith(b"filename") for key in keys)
    return _Part(names[0], Span(head_end + 4, end), is_file)


def _unquote(value: bytes) -> bytes:
    return value[1:-1] if value.startswith(b'"') else value


def _text(body: bytes, span: Span, name: str) -> str:
    try:
        return body[span.start : span.end].decode()
    except UnicodeDecodeError as exc:
        msg = f"the form field `{name}` is not valid UTF-8"
        raise InvalidRequest(msg, param=name) from exc
