"""Usage in a JSON answer: any split gives the same, and it is that of the document's top level."""

import json
import random
from typing import Any

from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.usage_reader import JsonUsageReader
from fuzz import json_text
from fuzz.target import Draws, Target, bounded, cuts, plain

LIMITS = (1 << 20, 1 << 20, 1 << 20, 1, 64)
_MOST_TOKENS = 1 << 53
_MOST_CANDIDATES = 16


def check(data: bytes) -> None:
    """Read one answer; the first bytes give how much of it is kept and where it is cut."""
    draws = Draws(data)
    limit, seed = draws.pick(LIMITS), draws.number()
    body = draws.repeated_rest()
    with bounded(len(body) * 2):
        whole, truncated = _read([body], limit)
        assert _read(cuts(body, seed), limit) == (whole, truncated)
    assert truncated == (len(body) > limit)
    for count in (whole.prompt_tokens, whole.completion_tokens, whole.total_tokens, whole.cached_tokens):
        assert count is None or 0 <= count <= 3 * _MOST_TOKENS
    if not truncated:
        _check_usage(body, whole)


def _read(chunks: list[bytes], limit: int) -> tuple[Usage, bool]:
    reader = JsonUsageReader(max_tail_bytes=limit)
    for chunk in chunks:
        reader.feed(chunk)
        assert len(reader._tail) <= 2 * limit
        assert reader.usage == Usage()
    return reader.finish(), reader.truncated


def _check_usage(body: bytes, ours: Usage) -> None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return  # whatever is read from what is no JSON, or has numbers of thousands of digits
    if json_text.has_lone_surrogate(document):
        return
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        assert not ours.known, "usage that is not at the top level"
        return
    stated = {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    other_dialect = any(name in usage for name in ("input_tokens", "cache_read_input_tokens", "output_tokens"))
    cache = "cache_creation_input_tokens" in usage
    plainly = b"\\" not in body and body.count(b'"usage"') <= _MOST_CANDIDATES and json_text.depth_of(document) < 100
    if plainly and not other_dialect and not cache:
        assert ours.prompt_tokens == stated["prompt_tokens"]
        assert ours.completion_tokens == stated["completion_tokens"]


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def generate(rng: random.Random) -> bytes:
    usage = {
        "prompt_tokens": rng.choice((0, 7, json_text.value(rng))),
        "completion_tokens": rng.choice((0, 9, json_text.value(rng))),
        "prompt_tokens_details": rng.choice((None, {"cached_tokens": 3}, json_text.value(rng))),
    }
    document = {
        "choices": [{"message": {"content": json_text.value(rng)}}],
        "x": rng.choice((json_text.value(rng), {"usage": usage})),
        rng.choice(("y", 'z"usage', '\\"usage')): rng.choice((usage, 1)),
        "usage": rng.choice((usage, usage, None, json_text.value(rng))),
    }
    keys = [key for key in document if rng.random() < 0.8]
    rng.shuffle(keys)
    text = json_text.write({key: document[key] for key in keys}, rng).encode()
    return bytes(rng.randrange(256) for _ in range(6)) + json_text.damaged(text, rng)


TARGET = Target(
    "json_usage",
    check,
    generate,
    seeds=(
        plain(b'{"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}', 0, 0, 1),
        plain(b'{"usage":{"input_tokens":7,"output_tokens":9,"cache_read_input_tokens":2},"z":{"usage":1}}', 0, 0, 2),
    ),
    tokens=(
        b'"usage":', b'"usage"', b'\\"usage":{', b"{", b"}", b"[", b"]", b",", b"null", b'"', b"\\",
        b'"prompt_tokens":1',
        b'"x":', b'{"usage":{"prompt_tokens":1}}', b"NaN", b"1e400",
    ),
)  # fmt: skip
