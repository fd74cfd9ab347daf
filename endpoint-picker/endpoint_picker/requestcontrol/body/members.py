"""Where the value of a top-level member stands in the bytes of a JSON object.

Finding is a guess that is then proven. JSON is read from the left, so the bytes before a position alone decide what
may follow. If they, completed by ``null}``, are an object whose last member is ``"name": null``, then the position is
where the value of the top-level *name* begins. The proof costs one decoding of those bytes, nothing for a model that
comes first, and holds whatever the search made of the text.
"""

import re
from collections.abc import Iterator
from typing import Final

from endpoint_picker.domain.errors import InternalFailure
from endpoint_picker.requestcontrol.body.document import STRING, parse
from endpoint_picker.requestcontrol.body.parsed import Span

_COLON: Final = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")
_TOKEN: Final = re.compile(STRING.pattern + rb"|[\[\]{}]", re.DOTALL)
_SCALAR: Final = re.compile(rb"[^,\]} \t\n\r]++")
_OPENERS: Final = b"[{"
_BACKSLASH: Final = 0x5C
_QUOTE: Final = 0x22
_MOST_OCCURRENCES: Final = 64
_MOST_PROOFS: Final = 3


def locate_member(body: bytes, name: str) -> Span:
    """Return where the value of the top-level member *name* stands in *body*, a valid object that has it once.

    Raises:
        InternalFailure: It is not there.
    """
    for start in _plain_occurrences(body, name):
        if _is_value_of(body, start, name):
            return Span(start, _value_end(body, start))
    found = _scan(body, name)
    if found is None or not _is_value_of(body, found, name):
        msg = f"the value of `{name}` was not found in a body that has it"
        raise InternalFailure(msg)
    return Span(found, _value_end(body, found))


def _is_value_of(body: bytes, start: int, name: str) -> bool:
    try:
        head = parse(body[:start] + b"null}")
    except ValueError:
        return False
    return isinstance(head, dict) and next(reversed(head), None) == name


def _plain_occurrences(body: bytes, name: str) -> Iterator[int]:
    """Yield value positions after a key *name* without escapes, at any depth; few, because each may be proven."""
    key = f'"{name}"'.encode()
    at = -1
    proofs = 0
    for _ in range(_MOST_OCCURRENCES):
        at = body.find(key, at + 1)
        if at < 0 or proofs == _MOST_PROOFS:
            return
        colon = _COLON.match(body, at + len(key))
        if colon and body[at - 1] != _BACKSLASH:
            proofs += 1
            yield colon.end()


def _scan(body: bytes, name: str) -> int | None:
    """Return where the value of the top-level *name* begins; reads every token, for keys with escapes and decoys."""
    depth = 0
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first != _QUOTE:
            depth += 1 if first in _OPENERS else -1
        elif depth == 1:
            colon = _COLON.match(body, token.end())
            if colon and parse(token.group()) == name:
                return colon.end()
    return None


def _value_end(body: bytes, start: int) -> int:
    """Return the end of the value that begins at *start*."""
    if body[start] not in _OPENERS:
        value = STRING.match(body, start) or _SCALAR.match(body, start)
        return value.end() if value else start
    depth = 0
    for token in _TOKEN.finditer(body, start):
        first = body[token.start()]
        if first != _QUOTE:
            depth += 1 if first in _OPENERS else -1
            if depth == 0:
                return token.end()
    return len(body)
