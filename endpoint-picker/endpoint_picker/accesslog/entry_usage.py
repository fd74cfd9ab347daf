"""Token usage in an access-log entry's metadata.

Two readers in Envoy write it: the AI protocol manager one typed record, which it withholds when the client leaves
early and for answers that are not 2xx, and `sse_to_metadata` one untyped number per count as they stream by. The
order of trust:

1. a typed record that is COMPLETE;
2. the untyped numbers;
3. any other typed record, whose counts may be too small.

Envoy 1.40 logs no typed record of a request without untyped metadata, that is, of one that the picker never saw.
"""

from collections.abc import Mapping
from typing import Final, Literal

from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Value

from endpoint_picker.domain.usage import Usage
from endpoint_picker.protos import core_pb2 as core
from endpoint_picker.protos.token_usage_pb2 import TokenUsage
from envoy_config.names import (
    TOKEN_USAGE_NAMESPACE,
    USAGE_CACHE_WRITE,
    USAGE_CACHED,
    USAGE_COMPLETION,
    USAGE_PROMPT,
    USAGE_REASONING,
    USAGE_TOTAL,
)

_MAX_TOKENS: Final = 1 << 53
"""Above it a number of the metadata is no longer exact."""
_UNTYPED_KEYS: Final = (USAGE_PROMPT, USAGE_COMPLETION, USAGE_TOTAL, USAGE_CACHED, USAGE_CACHE_WRITE, USAGE_REASONING)
_ANTHROPIC_PATH: Final = "/messages"
_UNKNOWN: Final = Usage()


def read_usage(metadata: core.Metadata, own: Mapping[str, Value], *, path: str) -> Usage:
    """Return the usage; all None if there is none.

    Args:
        metadata: Metadata of the entry.
        own: What it has under our own namespace.
        path: Path the model server was asked for, without query: it tells whether an untyped prompt count lacks the
            cached tokens, as Anthropic's does.
    """
    record = _typed_record(metadata)
    typed = _UNKNOWN
    if record is not None:
        typed = _from_record(record)
        if record.extraction_status == TokenUsage.COMPLETE and typed.known:
            return typed
    untyped = _from_numbers(own, anthropic=path.endswith(_ANTHROPIC_PATH))
    return untyped if untyped.known else typed


def _typed_record(metadata: core.Metadata) -> TokenUsage | None:
    records = metadata.typed_filter_metadata
    if TOKEN_USAGE_NAMESPACE not in records:
        return None
    packed, record = records[TOKEN_USAGE_NAMESPACE], TokenUsage()
    try:
        return record if packed.Unpack(record) else None
    except DecodeError:
        return None


def _from_record(record: TokenUsage) -> Usage:
    total = _wrapped(record, "provider_total_tokens")
    return Usage(
        prompt_tokens=_wrapped(record, "input_tokens"),
        completion_tokens=_wrapped(record, "output_tokens"),
        total_tokens=total if total is not None else _wrapped(record, "total_tokens"),
        cached_tokens=_wrapped(record.input_token_details, "cached_tokens"),
        reasoning_tokens=_wrapped(record.output_token_details, "reasoning_tokens"),
    )


_Count = Literal[
    "provider_total_tokens", "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"
]


def _wrapped(message: Message, field: _Count) -> int | None:
    if not message.HasField(field):
        return None
    value: int = getattr(message, field).value
    return value if value <= _MAX_TOKENS else None


def _from_numbers(values: Mapping[str, Value], *, anthropic: bool) -> Usage:
    prompt, completion, total, cached, cache_write, reasoning = [_number(values, key) for key in _UNTYPED_KEYS]
    if prompt is not None and (anthropic or cache_write is not None):
        prompt += (cached or 0) + (cache_write or 0)
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
    )


def _number(values: Mapping[str, Value], key: str) -> int | None:
    value = values.get(key)
    if value is None or not value.HasField("number_value"):
        return None
    number = value.number_value
    # NaN and infinities fail the comparison.
    return int(number) if 0 <= number <= _MAX_TOKENS else None
