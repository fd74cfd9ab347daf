"""JSON for the fuzzers: a strict reader on top of `json`, where members stand, and documents in odd spellings."""

import json
import random
from collections.abc import Sequence
from json.decoder import scanstring
from typing import Any, NamedTuple, NoReturn

Value = Any
_SPACE = " \t\n\r"
_MOST_DIGITS = 4000
"""Python converts no more than 4300, and so does the picker's decoder; JSON leaves the limit to its readers."""


class NotStrict(ValueError):
    """The text is no strict JSON."""


class Member(NamedTuple):
    """One member of an object: its key, and where its value stands in the text."""

    key: str
    start: int
    end: int


def _refuse(word: str) -> NoReturn:
    raise NotStrict(word)


def _unique(pairs: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise NotStrict
    return dict(pairs)


def _integer(digits: str) -> Value:
    return int(digits) if len(digits) < _MOST_DIGITS else ("long", digits)


def _float(digits: str) -> Value:
    return float(digits) if len(digits) < _MOST_DIGITS else ("long", digits)


def strict_value(data: bytes) -> Value:
    """Return the value of strict JSON without repeated keys; NotStrict if it is not that."""
    try:
        return json.loads(
            data.decode(),
            parse_constant=_refuse,
            parse_int=_integer,
            parse_float=_float,
            object_pairs_hook=_unique,
            strict=True,
        )
    except (ValueError, RecursionError) as exc:
        raise NotStrict from exc


def members(text: str, at: int = 0) -> tuple[list[Member], int]:
    """Return the members of the object that begins at *at* in valid *text*, and where its closing brace stands."""
    decoder = json.JSONDecoder(parse_int=str)
    at = _skip(text, _skip(text, at) + 1)
    found: list[Member] = []
    while text[at] != "}":
        key, at = scanstring(text, at + 1, True)
        at = _skip(text, _skip(text, at) + 1)
        _, end = decoder.raw_decode(text, at)
        found.append(Member(key, at, end))
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found, at


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def texts_of(value: Value) -> list[str]:
    """Return every string in *value*, keys among them."""
    found: list[str] = []
    pending = [value]
    while pending:
        match pending.pop():
            case str() as text:
                found.append(text)
            case dict() as mapping:
                pending += [*mapping.keys(), *mapping.values()]
            case list() as items:
                pending += items
    return found


def has_lone_surrogate(value: Value) -> bool:
    return any("\ud800" <= char <= "\udfff" for text in texts_of(value) for char in text)


def depth_of(value: Value) -> int:
    """Return how deep containers nest; 0 for a scalar."""
    depth = 0
    level = [value] if isinstance(value, dict | list) else []
    while level:
        depth += 1
        inner = [item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer)]
        level = [item for item in inner if isinstance(item, dict | list)]
    return depth


_KEYS = (
    "model", "messages", "role", "content", "type", "text", "image_url", "url", "stream", "stream_options",
    "include_usage", "prompt", "input", "tools", "system", "max_tokens", "max_completion_tokens", "sampling_params",
    "parameters", "cache_salt", "cache_control", "usage", "choices", "prompt_tokens", "completion_tokens",
    "total_tokens", "input_tokens", "output_tokens", "prompt_tokens_details", "cached_tokens",
    "cache_read_input_tokens", "response", "message", "token_ids", "query", "documents", "tool_calls", "instructions",
    "functions", "n", "x",
)  # fmt: skip
_STRINGS = (
    "", "m", "model", "user", "system", "developer", "assistant", "text", "image_url", "tool_result", "hello",
    '"model":', '"usage"', "\\", '"', "\u2028", "é", "日本", "\U0001f600", "\x00", "\x7f", "a" * 600, "{", "}",
    "[", ":",
)  # fmt: skip
_NUMBERS = (
    "0", "-0", "1", "17", "-1", "1.5", "1e5", "1E+400", "-1e400", "0.1e-7", "9007199254740993", "18446744073709551616",
    "1" + "0" * 400, "1" * 4301, "2147483648", "5.0", "1e0",
)  # fmt: skip
_WRONG = (
    b"NaN", b"-Infinity", b"01", b"1.", b".5", b"+1", b"'a'", b"//", b",,", b"\x00", b"\xff", b"\xef\xbb\xbf", b"tru",
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x"', b'"\\u12"', b'"\n"', b"\xed\xa0\x80", b"\xc0\xaf", b"1e", b"--1", b"}",
)  # fmt: skip


def _space(rng: random.Random) -> str:
    return "".join(rng.choice(_SPACE) for _ in range(rng.randrange(3))) if rng.random() < 0.15 else ""


def spelt(text: str, rng: random.Random) -> str:
    """Return *text* as a JSON string, here and there with escapes that are not needed."""
    if rng.random() < 0.7:
        return json.dumps(text, ensure_ascii=rng.random() < 0.5)
    parts = [f"\\u{ord(c):04x}" if ord(c) < 65536 and rng.random() < 0.4 else json.dumps(c)[1:-1] for c in text]
    return f'"{"".join(parts)}"'


def write(value: Value, rng: random.Random) -> str:
    """Return *value* in some spelling; text of a `str` subclass `Raw` stands as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        inner = [
            f"{_space(rng)}{spelt(key, rng)}{_space(rng)}:{_space(rng)}{write(v, rng)}" for key, v in value.items()
        ]
        return "{" + f"{_space(rng)},".join(inner) + _space(rng) + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{_space(rng)}{write(item, rng)}{_space(rng)}" for item in value) + "]"
    return spelt(value, rng) if isinstance(value, str) else json.dumps(value)


class Raw(str):
    """JSON text that is written as it is."""

    __slots__ = ()


def value(rng: random.Random, depth: int = 0) -> Value:
    """Return any value, mostly of words that mean something to a reader."""
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind < 2:
        return rng.choice(_STRINGS)
    if kind < 4:
        return Raw(rng.choice(_NUMBERS))
    if kind < 6:
        return rng.choice((True, False, None))
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(_KEYS): value(rng, depth + 1) for _ in range(rng.randrange(5))}


def _message(rng: random.Random) -> Value:
    parts = [{"type": rng.choice(_STRINGS), "text": "t"}, {"type": "image_url", "image_url": {"url": "u"}}, value(rng)]
    content = rng.choice(("hello", rng.sample(parts, rng.randrange(4)), value(rng)))
    return {"role": rng.choice(("user", "system", "tool")), "content": content}


def request(rng: random.Random) -> bytes:
    """Return a request body, most often one that is accepted."""
    document = {
        "model": rng.choice(("m", "m", "base", "model", "é", value(rng))),
        "messages": [_message(rng) for _ in range(rng.randrange(1, 4))],
        "prompt": rng.choice(("p", [1, 2, 3], ["a", "b"], value(rng))),
        "input": rng.choice(("i", [1, 2], [{"role": "user", "content": "c"}], value(rng))),
        "stream": rng.choice((True, True, False, None)),
        "stream_options": rng.choice(({}, {"include_usage": rng.choice((True, False, None))}, None, value(rng))),
        "max_tokens": value(rng),
        "tools": [value(rng)],
        "x": value(rng),
    }
    keys = [key for key in document if rng.random() < 0.8]
    rng.shuffle(keys)
    return damaged(write({key: document[key] for key in keys}, rng).encode(), rng)


def damaged(text: bytes, rng: random.Random) -> bytes:
    """Return *text*, in one of five cases no longer quite JSON."""
    at = rng.randrange(len(text) + 1)
    match rng.randrange(20):
        case 0:
            return text[:at] + rng.choice(_WRONG) + text[at:]
        case 1:
            return text[:at]
        case 2:
            return text.replace(b":", b":" + rng.choice(_WRONG), 1)
        case 3:
            return text.replace(b"}", b',"model":"other"}', 1)
        case _:
            return text
