"""Random protobuf messages of any type: fields that are there or not, values at the edges."""

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

_TEXTS = (
    "", "-", "a", "x-request-id", "10.0.0.1:80", "10.0.0.1:80,10.0.0.2:80", "é", "a\nb", "\x00", "0", "1e400", "nan",
    "-1",
    "250000", "via_upstream", "UF,UT", "DC", "text/event-stream", "application/json", "true", "a" * 300,
    "content-length",
    ":status", ":path", ":method", "content-type", "200", "999999999999999999999", "²", "/v1/messages?x=1",
    "\U0001f600",
)  # fmt: skip
_INTEGERS = (
    0,
    1,
    2,
    7,
    200,
    404,
    503,
    65535,
    2**31 - 1,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**64 - 1,
    -1,
    -(2**31),
    -(2**63),
)
_FLOATS = (0.0, 1.0, -1.0, 0.5, 1e308, float("inf"), float("-inf"), float("nan"), 2.0**53, 2.0**60)
_RANGES = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
    Field.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


def fill(message: Any, rng: random.Random, texts: tuple[str, ...] = (), *, depth: int = 0, rate: float = 0.4) -> Any:
    """Set some fields of *message*, the ones of inner messages too; *texts* are words that mean something to it."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() > rate or (depth > 5 and field.cpp_type == Field.CPPTYPE_MESSAGE):
            continue
        if _is_map(field):
            _fill_map(getattr(message, field.name), field, rng, texts, depth)
        elif field.is_repeated:
            for _ in range(rng.randrange(3)):
                items = getattr(message, field.name)
                if field.cpp_type == Field.CPPTYPE_MESSAGE:
                    fill(items.add(), rng, texts, depth=depth + 1, rate=rate)
                else:
                    items.append(_scalar(field, rng, texts))
        elif field.cpp_type == Field.CPPTYPE_MESSAGE:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(inner, rng, texts, depth=depth + 1, rate=rate)
        else:
            setattr(message, field.name, _scalar(field, rng, texts))
    return message


def _is_map(field: Field) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _fill_map(target: Any, field: Field, rng: random.Random, texts: tuple[str, ...], depth: int) -> None:
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for _ in range(rng.randrange(4)):
        chosen = _scalar(key, rng, texts)
        if value.cpp_type == Field.CPPTYPE_MESSAGE:
            fill(target[chosen], rng, texts, depth=depth + 1)
        else:
            target[chosen] = _scalar(value, rng, texts)


def _scalar(field: Field, rng: random.Random, texts: tuple[str, ...]) -> Any:
    match field.cpp_type:
        case Field.CPPTYPE_STRING:
            text = rng.choice((*texts, *_TEXTS))
            return text.encode() if field.type == Field.TYPE_BYTES else text
        case Field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case Field.CPPTYPE_FLOAT | Field.CPPTYPE_DOUBLE:
            return rng.choice(_FLOATS)
        case Field.CPPTYPE_ENUM if rng.random() < 0.8:
            return rng.choice(field.enum_type.values).number
        case kind:
            low, high = _RANGES[kind]
            return min(max(rng.choice(_INTEGERS), low), high)


def encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
