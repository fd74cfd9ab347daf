"""Access-log entries: whatever bytes they are, a reading is sensible or there is none."""

import math
import random
from dataclasses import fields

from google.protobuf.message import DecodeError

from endpoint_picker.accesslog import entry as entries
from endpoint_picker.accesslog.entry import read_entry
from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.protos.access_log_pb2 import HTTPAccessLogEntry
from endpoint_picker.protos.token_usage_pb2 import TokenUsage
from envoy_config import names
from fuzz import protobuf_values
from fuzz.target import Draws, Target, bounded

LOGS = (names.REQUEST_LOG, names.ATTEMPT_LOG, "other")
_TIMES = ("ttft_seconds", "duration_seconds", "body_seconds", "first_byte_seconds", "started_at")
_TAGS = tuple(value for name, value in sorted(vars(entries).items()) if name.endswith("_TAG"))
_TEXTS = (
    *_TAGS, names.METADATA_NAMESPACE, names.TOKEN_USAGE_NAMESPACE, names.CORRELATION_ID, names.MODEL, names.POOL,
    names.STREAMING, names.TARGET_MODEL, names.USAGE_PROMPT, names.USAGE_COMPLETION, names.USAGE_TOTAL,
    names.USAGE_CACHED, names.USAGE_REASONING, names.REQUEST_ID_HEADER,
)  # fmt: skip


def check(data: bytes) -> None:
    """Read one entry; the first byte says of which log."""
    draws = Draws(data)
    log = draws.pick(LOGS)
    try:
        entry = HTTPAccessLogEntry.FromString(draws.rest())
    except DecodeError:
        return
    before = entry.SerializeToString(deterministic=True)
    with bounded(len(data)):
        read = read_entry(entry, log)
    assert entry.SerializeToString(deterministic=True) == before, "reading changed the entry"
    assert log in LOGS[:2] or read is None
    if read is None:
        return
    for field in fields(read):
        value = getattr(read, field.name)
        if field.name in _TIMES and value is not None:
            assert math.isfinite(value), field.name
            assert value >= 0, field.name
        elif isinstance(value, int):
            assert value >= 0, field.name
        elif isinstance(value, str):
            value.encode()
    if isinstance(read, Attempt):
        assert read.address
        assert read.failed in (True, False)
        assert not (read.live and (read.status is not None or read.failed))
    else:
        _check_usage(read)


def _check_usage(read: CompletedRequest) -> None:
    usage = read.usage
    for count in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens):
        assert count is None or (type(count) is int and 0 <= count <= 3 << 53)


def generate(rng: random.Random) -> bytes:
    rate = rng.choice((0.1, 0.4, 0.9))
    entry = protobuf_values.fill(HTTPAccessLogEntry(), rng, _TEXTS, rate=rate)
    if rng.random() < 0.5:
        own = entry.common_properties.metadata.filter_metadata[names.METADATA_NAMESPACE]
        for name in rng.sample(_TEXTS, 5):
            protobuf_values.fill(own.fields[name], rng, _TEXTS)
        packed = entry.common_properties.metadata.typed_filter_metadata[names.TOKEN_USAGE_NAMESPACE]
        packed.Pack(protobuf_values.fill(TokenUsage(), rng))
        if rng.random() < 0.2:
            packed.value = rng.randbytes(8)
        tags = entry.common_properties.custom_tags
        for name in rng.sample(_TAGS, 4):
            tags[name] = rng.choice(("1", "-", "250000", "nan", "1e400", "-5", "1_0", "x", "10.0.0.1:80", "UF,DC"))
    return bytes((rng.randrange(256),)) + protobuf_values.encoded(entry)


TARGET = Target(
    "accesslog",
    check,
    generate,
    seeds=tuple(generate(random.Random(seed)) for seed in range(20)),
    tokens=(*(text.encode() for text in _TEXTS), b"\x0a", b"\x12", b"\x08\x01", b"\xff\xff\xff\xff\x0f"),
)
