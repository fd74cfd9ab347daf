"""Changing a request body in place: the model's name and the wish for usage, and not one byte else."""

import json
from typing import Final, NamedTuple

from endpoint_picker.domain.errors import InternalFailure
from endpoint_picker.requestcontrol.body.document import WHITESPACE, parse
from endpoint_picker.requestcontrol.body.kinds import BodyKind
from endpoint_picker.requestcontrol.body.members import locate_member
from endpoint_picker.requestcontrol.body.multipart import replace_model
from endpoint_picker.requestcontrol.body.parsed import BodyFormat, ParsedBody, Span

_INCLUDE: Final = b'"include_usage":true'
_OPTIONS: Final = b'{"include_usage":true}'
# The other APIs report usage unasked, or have no such option.
_WITH_STREAM_OPTIONS: Final = frozenset({BodyKind.CHAT, BodyKind.COMPLETIONS})


class _Edit(NamedTuple):
    span: Span
    text: bytes


def rewrite(body: bytes, parsed: ParsedBody, *, model: str | None, add_include_usage: bool) -> bytes:
    """Return *body* with another model name and, if asked, with usage requested; all other bytes stay.

    Each edit is proven before it is made: see `members` for the place, and the value there must be the one that was
    read. Usage is asked for only where ``stream_options`` exists: streamed chat and completions. A body that names no
    model gets none, and a ``stream_options`` that is neither object nor null is left for the model server to refuse.

    Args:
        body: The bytes that `read_body` was given.
        parsed: What it returned.
        model: Name to put in; None: leave it.
        add_include_usage: Set ``stream_options.include_usage`` to true.

    Raises:
        InternalFailure: *body* is not what *parsed* was read from, or *model* cannot be written into it.
    """
    new_model = model if parsed.model and model != parsed.model else None
    if parsed.format is BodyFormat.MULTIPART and parsed.model_span and new_model is not None:
        return replace_model(body, parsed.model_span, old=parsed.model, new=new_model)
    if parsed.format is not BodyFormat.JSON:
        return body
    edits: list[_Edit] = []
    if new_model is not None:
        edits.append(_edit_model(body, parsed.model, new_model))
    wanting = parsed.streaming and not parsed.wants_usage and parsed.kind in _WITH_STREAM_OPTIONS
    if add_include_usage and wanting:
        usage = _edit_options(body) if parsed.has_stream_options else _append(body, b',"stream_options":' + _OPTIONS)
        edits += [usage] if usage else []
    for edit in sorted(edits, reverse=True):
        body = b"".join((body[: edit.span.start], edit.text, body[edit.span.end :]))
    return body


def _edit_model(body: bytes, old: str, new: str) -> _Edit:
    span = locate_member(body, "model")
    text = json.dumps(new, ensure_ascii=False).encode(errors="surrogatepass")
    _prove(body[span.start : span.end], old)
    _prove(text, new)
    return _Edit(span, text)


def _edit_options(body: bytes) -> _Edit | None:
    span = locate_member(body, "stream_options")
    text = body[span.start : span.end]
    options = _parse(text)
    if options is None:
        return _Edit(span, _OPTIONS)
    if not isinstance(options, dict):
        return None
    if "include_usage" in options:
        edit = _Edit(locate_member(text, "include_usage"), b"true")
    else:
        edit = _append(text, b"," + _INCLUDE if options else _INCLUDE)
    edited = text[: edit.span.start] + edit.text + text[edit.span.end :]
    _prove(edited, {**options, "include_usage": True})
    return _Edit(span, edited)


def _append(text: bytes, member: bytes) -> _Edit:
    """Return the edit that puts *member* right before the brace that closes the object *text*."""
    end = len(text.rstrip(WHITESPACE)) - 1
    _prove_closing(text[end : end + 1])
    return _Edit(Span(end, end), member)


def _prove(text: bytes, value: object) -> None:
    if _parse(text) != value:
        msg = "the request body could not be rewritten: a value is not what was read"
        raise InternalFailure(msg)


def _prove_closing(byte: bytes) -> None:
    if byte != b"}":
        msg = "the request body could not be rewritten: it does not end as an object"
        raise InternalFailure(msg)


def _parse(text: bytes) -> object:
    try:
        return parse(text)
    except ValueError as exc:
        msg = "the request body could not be rewritten: a value is not what was read"
        raise InternalFailure(msg) from exc
