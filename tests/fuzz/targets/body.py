"""Request bodies: nothing is accepted that strict JSON refuses, and a rewrite changes no byte more than it must."""

import json
import math
import random
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_form

from endpoint_picker.domain.errors import InvalidRequest, RequestRejected
from endpoint_picker.requestcontrol.body.document import decode
from endpoint_picker.requestcontrol.body.kinds import BodyKind
from endpoint_picker.requestcontrol.body.parsed import BodyFormat, BodyLimits, ParsedBody
from endpoint_picker.requestcontrol.body.reading import read_body
from endpoint_picker.requestcontrol.body.rewriting import rewrite
from fuzz import json_text
from fuzz.json_text import NotStrict
from fuzz.target import Draws, Target, bounded, plain

PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/rerank",
    "/v1/score",
    "/tokenize",
    "/generate",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/audio/transcriptions",
    "/unknown",
)
TYPES = (
    "multipart/form-data; boundary=XX",
    'multipart/form-data; charset=utf-8; boundary="X X"',
    "application/json",
    "",
    "multipart/form-data; boundary=-",
    "multipart/form-data",
)
LIMITS = (
    BodyLimits(),
    BodyLimits(max_bytes=300, max_depth=3, max_prompt_bytes=20, max_values=40),
    BodyLimits(max_depth=200, max_prompt_bytes=0),
)
MODELS = (None, "new", 'quo"te\\', "ünï/日本:語", "a\u2028b", "n" * 512)
_INCLUDE = '"include_usage":true'


def check(data: bytes) -> None:
    """Read one body and rewrite it; the first bytes say for which path, in which limits, to which model."""
    draws = Draws(data)
    path, content_type, limits = draws.pick(PATHS), draws.pick(TYPES), draws.pick(LIMITS)
    model, usage = draws.pick(MODELS), draws.flag()
    body = draws.repeated_rest()
    with bounded(len(body)):
        _check_decoding(body, limits)
        try:
            parsed = read_body(body, path=path, content_type=content_type, limits=limits)
        except RequestRejected:
            return
        result = rewrite(body, parsed, model=model, add_include_usage=usage)
    assert len(parsed.prompt) <= limits.max_prompt_bytes
    assert parsed.prompt_tokens >= 0
    match parsed.format:
        case BodyFormat.JSON:
            _check_reading(body, parsed, path, limits)
            assert result == _rewritten(body, parsed, model, usage=usage)
        case BodyFormat.MULTIPART:
            _check_form(body, parsed, content_type, result, model)
        case BodyFormat.OPAQUE:
            assert parsed.kind is BodyKind.OTHER
            assert result is body


def _check_decoding(body: bytes, limits: BodyLimits) -> None:
    """Hold the decoder to `json`: it accepts nothing else, and refuses nothing else within the limits."""
    try:
        value = decode(body, limits)
    except InvalidRequest:
        if len(body) > limits.max_values:
            return
        try:
            expected = json_text.strict_value(body)
        except NotStrict:
            return
        deep = json_text.depth_of(expected) > limits.max_depth
        assert deep or json_text.has_lone_surrogate(expected) or _has_long_number(expected), "refused, but strict JSON"
    else:
        expected = json_text.strict_value(body)
        assert json_text.depth_of(expected) <= limits.max_depth
        if not _has_long_number(expected):
            assert _equal(value, expected)


def _has_long_number(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            return True
        if isinstance(item, dict | list):
            pending += item.values() if isinstance(item, dict) else item
    return False


def _equal(ours: Any, theirs: Any) -> bool:
    """Compare values, their types and the order of keys."""
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(_equal(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    if isinstance(theirs, float):
        return isinstance(ours, float) and math.isclose(ours, theirs, rel_tol=1e-15, abs_tol=5e-324)
    return type(ours) is type(theirs) and bool(ours == theirs)


def _check_reading(body: bytes, parsed: ParsedBody, path: str, limits: BodyLimits) -> None:
    document = json_text.strict_value(body)
    assert parsed.model == (document.get("model") or "")
    if parsed.kind is BodyKind.OTHER:
        return
    options = document.get("stream_options")
    assert parsed.streaming == (document.get("stream") is True)
    assert parsed.wants_usage == (isinstance(options, dict) and options.get("include_usage") is True)
    assert parsed.has_stream_options == ("stream_options" in document)
    if _has_long_number(document):
        return
    # Another spelling of the same document is the same request.
    other = json.dumps(document, indent=1)
    if "Infinity" not in other and len(other) <= limits.max_bytes:
        assert read_body(other.encode(), path=path, content_type="application/json", limits=limits) == parsed


def _rewritten(body: bytes, parsed: ParsedBody, model: str | None, *, usage: bool) -> bytes:
    """Return what a rewrite must give, from the places `json` itself finds."""
    text = body.decode()
    found, closing = json_text.members(text)
    edits: list[tuple[int, int, str]] = []
    at = {member.key: member for member in found}
    if model is not None and parsed.model and model != parsed.model:
        edits.append((at["model"].start, at["model"].end, json.dumps(model, ensure_ascii=False)))
    if usage and parsed.streaming and not parsed.wants_usage and parsed.kind in (BodyKind.CHAT, BodyKind.COMPLETIONS):
        options = at.get("stream_options")
        if options is None:
            edits.append((closing, closing, f',"stream_options":{{{_INCLUDE}}}'))
        elif text[options.start] == "n":
            edits.append((options.start, options.end, f"{{{_INCLUDE}}}"))
        elif text[options.start] == "{":
            inner, brace = json_text.members(text, options.start)
            included = next((member for member in inner if member.key == "include_usage"), None)
            comma = "," if inner else ""
            edits.append((included.start, included.end, "true") if included else (brace, brace, comma + _INCLUDE))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text.encode()


def _check_form(body: bytes, parsed: ParsedBody, content_type: str, result: bytes, model: str | None) -> None:
    before = _form(body, content_type)
    assert [content for kind, name, content in before if name == b"model"] == [parsed.model.encode()]
    expected = parsed.model if model is None else model
    after = [(kind, name, expected.encode() if name == b"model" else content) for kind, name, content in before]
    assert _form(result, content_type) == after


def _form(body: bytes, content_type: str) -> list[tuple[str, bytes | None, bytes]]:
    """Return the parts of a form as another reader sees them."""
    from io import BytesIO  # noqa: PLC0415

    found: list[tuple[str, bytes | None, bytes]] = []

    def take_field(field: Any) -> None:
        found.append(("field", field.field_name, field.value or b""))

    def take_file(file: Any) -> None:
        file.file_object.seek(0)
        found.append(("file", file.field_name, file.file_object.read()))
        file.close()

    headers = {"Content-Type": content_type.encode(), "Content-Length": str(len(body)).encode()}
    try:
        parse_form(headers, BytesIO(body), take_field, take_file)
    except FormParserError as exc:
        msg = f"another reader refuses the form: {exc}"
        raise AssertionError(msg) from exc
    return found


def _form_body(rng: random.Random, boundary: bytes) -> bytes:
    body = b""
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice((b"model", b"stream", b"file", b"a[]"))
        extra = rng.choice((b"", b"", b'; filename="a"', b"; filename*=UTF-8''x", b"\r\nContent-Type: audio/wav"))
        content = rng.choice((b"whisper", b"", b"true", rng.randbytes(9), b"\r\n--", b"--" + boundary, "é".encode()))
        body += b"--" + boundary + b'\r\nContent-Disposition: form-data; name="' + name + b'"' + extra
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + boundary + rng.choice((b"--", b"--\r\n", b"--\r\n", b"", b"--x"))


def generate(rng: random.Random) -> bytes:
    choices = bytes(rng.randrange(256) for _ in range(8))
    if rng.random() < 0.25:
        return plain(_form_body(rng, rng.choice((b"XX", b"X X", b"-"))), rng.choice((10, 11)), *choices[1:5])
    return choices + json_text.request(rng)


TARGET = Target(
    "body",
    check,
    generate,
    seeds=(
        plain(b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}', 0, 0, 0, 1, 1),
        plain(b'{"prompt":["a",[1,2]],"mod\\u0065l":"m","stream_options":{"include_usage":false}}', 1, 0, 0, 2, 1),
        plain(b'{"model":"m","input":[{"type":"message","role":"user","content":[{"type":"input_text"}]}]}', 3),
        plain(b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nw\r\n--XX--\r\n', 11, 0, 0, 1, 0),
        plain(b'{"model":"x","a":{"model":"y"}}', 12, 0, 0, 1, 0),
    ),
    tokens=(
        *(f'"{key}":'.encode() for key in ("model", "stream", "stream_options", "include_usage", "messages", "x")),
        b"{", b"}", b"[", b"]", b",", b"null", b"true", b'"', b"\\", b'\\"', b"\\u0065", b"1e5", b"-0", b"\xef\xbb\xbf",
        b"\r\n--XX", b"--XX--\r\n", b'Content-Disposition: form-data; name="model"', b"\r\n\r\n", b"; filename=a",
        b"\xff",
    ),
)  # fmt: skip
