"""Strict JSON: bytes to Python values, within limits, or an error that says where."""

import re
from collections.abc import Iterable
from typing import Final, NoReturn

import jiter

from endpoint_picker.domain.errors import InvalidRequest
from endpoint_picker.requestcontrol.body.parsed import BodyLimits

WHITESPACE: Final = b" \t\n\r"

STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON string; an unterminated one reaches to the end, which keeps any search linear."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NOT_SEPARATING: Final = bytes(set(range(256)) - set(b",:[{"))
_DUPLICATE: Final = re.compile(r'Detected duplicate key "(.*)" at (line \d+ column \d+)', re.DOTALL)
_LONGEST_QUOTE: Final = 64


def parse(text: bytes) -> object:
    """Return the value of strict JSON *text*, without duplicate keys, NaN or Infinity; ValueError if it is not."""
    value: object = jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    return value


def decode(body: bytes, limits: BodyLimits) -> object:
    """Return the value of a JSON *body*.

    Raises:
        InvalidRequest: The body is empty, not strict JSON, repeats a key within one object, or goes beyond *limits*.
    """
    if body.startswith(_BYTE_ORDER_MARK):
        msg = "the request body starts with a byte order mark; send plain UTF-8 without one"
        raise InvalidRequest(msg)
    if len(body) > limits.max_values and _count_values(body, limits.max_values) > limits.max_values:
        msg = f"the request body holds more than {limits.max_values} JSON values and keys"
        raise InvalidRequest(msg)
    try:
        value = parse(body)
    except ValueError as exc:
        _explain(body, str(exc), exc)
    if _has_more_openers(body, limits.max_depth) and _is_deeper(value, limits.max_depth):
        msg = f"the request body nests objects and arrays deeper than {limits.max_depth} levels"
        raise InvalidRequest(msg)
    return value


def _explain(body: bytes, said: str, cause: ValueError) -> NoReturn:
    """Raise the caller's form of what the decoder said."""
    if not body.strip(WHITESPACE):
        msg = "the request body is empty; send a JSON object"
        raise InvalidRequest(msg) from cause
    if duplicate := _DUPLICATE.match(said):
        key, position = duplicate.groups()
        key = key[:_LONGEST_QUOTE]
        msg = f"the request body gives the key `{key}` twice in one object ({position})"
        raise InvalidRequest(msg, param=key) from cause
    if "recursion limit" in said:
        msg = f"the request body nests objects and arrays too deep: {said}"
        raise InvalidRequest(msg) from cause
    if "invalid unicode code point" in said:
        msg = f"the request body is not valid UTF-8: {said}"
        raise InvalidRequest(msg) from cause
    msg = f"the request body is not valid JSON: {said}"
    raise InvalidRequest(msg) from cause


def _count_values(body: bytes, limit: int) -> int:
    """Return about how many values and keys there are; strings are left out only when they would pass *limit*."""
    rough = len(body.translate(None, _NOT_SEPARATING))
    return rough if rough <= limit else len(STRING.sub(b"", body).translate(None, _NOT_SEPARATING))


def _has_more_openers(body: bytes, limit: int) -> bool:
    """Return whether *body* has more than *limit* opening brackets, those within strings included."""
    seen = 0
    for opener in (b"{", b"["):
        at = body.find(opener)
        while at >= 0:
            seen += 1
            if seen > limit:
                return True
            at = body.find(opener, at + 1)
    return False


def _is_deeper(value: object, limit: int) -> bool:
    """Return whether containers nest deeper than *limit*; level by level, without recursion."""
    level: list[object] = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        if not level:
            return False
        level = [inner for outer in level for inner in _items(outer) if type(inner) is dict or type(inner) is list]
    return bool(level)


def _items(container: object) -> Iterable[object]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list) else ()
