"""Usage is read from an answer in any dialect; no split of the bytes changes it, and nothing an answer holds raises."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.usage import Usage
from endpoint_picker.requestcontrol.usage_reader import (
    JsonUsageReader,
    SseUsageReader,
    UsageReader,
    usage_reader_for,
)

FIXTURES = Path(__file__).parents[3] / "data" / "vllm_http"

CHAT = b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}'
RESPONSES = (
    b'{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":12,"output_tokens":5,"total_tokens":17,'
    b'"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}}}}'
)
MESSAGE_START = (
    b'{"type":"message_start","message":{"id":"m","usage":{"input_tokens":11,"cache_read_input_tokens":4,'
    b'"cache_creation_input_tokens":3,"output_tokens":1}}}'
)
MESSAGE_DELTA = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}'
TEXT = b'{"choices":[{"delta":{"content":"say \\"usage\\": {\\"prompt_tokens\\": 99}"}}],"usage":null}'

CHAT_USAGE = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
RESPONSES_USAGE = Usage(12, 5, 17, cached_tokens=4, reasoning_tokens=2)
ANTHROPIC_USAGE = Usage(18, 7, 25, cached_tokens=4)


def read(reader: UsageReader, *chunks: bytes) -> Usage:
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: " + TEXT + b"\n\ndata: " + CHAT + b"\n\ndata: [DONE]\n\n", CHAT_USAGE, id="chat"),
        pytest.param(b"event: response.completed\ndata: " + RESPONSES + b"\n\n", RESPONSES_USAGE, id="responses"),
        pytest.param(
            b"event: message_start\ndata: "
            + MESSAGE_START
            + b"\n\nevent: message_delta\ndata: "
            + MESSAGE_DELTA
            + b"\n\n",
            ANTHROPIC_USAGE,
            id="anthropic",
        ),
        pytest.param(
            b"data: " + MESSAGE_START + b"\n\n",
            Usage(18, 1, 19, cached_tokens=4),
            id="anthropic-cut-off-keeps-the-input-side",
        ),
        pytest.param(b"data: " + CHAT + b"\n\ndata: " + TEXT + b"\n\n", CHAT_USAGE, id="later-null-changes-nothing"),
        pytest.param(
            b'data: {"usage":{"prompt_tokens":10,"completion_tokens":2}}\n\ndata: ' + CHAT + b"\n\n",
            CHAT_USAGE,
            id="the-latest-counts",
        ),
        pytest.param(
            b'data: {"usage":{"prompt_tokens":10,"completion_tokens":2}}\n\ndata: '
            b'{"usage":{"prompt_tokens":0,"completion_tokens":3}}\n\n',
            Usage(10, 3, 13),
            id="zero-replaces-no-count",
        ),
        pytest.param(b"data:" + CHAT + b"\n\n", CHAT_USAGE, id="no-space"),
        pytest.param(b": ping\n\ndata: " + CHAT + b"\r\n\r\n", CHAT_USAGE, id="comment-and-crlf"),
        pytest.param(b"data: " + CHAT + b"\r\r", CHAT_USAGE, id="cr"),
        pytest.param(b"data: " + CHAT.replace(b",", b",\ndata: ") + b"\n\n", CHAT_USAGE, id="data-on-many-lines"),
        pytest.param(b"data: " + CHAT, CHAT_USAGE, id="no-terminator"),
        pytest.param(b"data: " + TEXT + b"\n\ndata: [DONE]\n\n", Usage(), id="none-stated"),
        pytest.param(b': {"usage":{"prompt_tokens":1}}\n\n', Usage(), id="comments-do-not-count"),
        pytest.param(b'data: [{"usage":{"prompt_tokens":1}}]\n\n', Usage(), id="not-an-object"),
        pytest.param(b'data: {"usage":[1],"response":3,"message":{"usage":4}}\n\n', Usage(), id="wrong-types"),
    ],
)
def test_stream(stream: bytes, expected: Usage) -> None:
    assert read(SseUsageReader(), stream) == expected
    assert read(SseUsageReader(), *(bytes([byte]) for byte in stream)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(CHAT, CHAT_USAGE, id="chat"),
        pytest.param(
            b' {"usage" : {"prompt_tokens":3,"total_tokens":3},\n"data":[]}\n', Usage(3, None, 3), id="usage-first"
        ),
        pytest.param(json.dumps(json.loads(RESPONSES)["response"]).encode(), RESPONSES_USAGE, id="responses"),
        pytest.param(
            b'{"type":"message","usage":{"input_tokens":11,"output_tokens":7,"cache_read_input_tokens":4,'
            b'"cache_creation_input_tokens":3}}',
            ANTHROPIC_USAGE,
            id="anthropic",
        ),
        pytest.param(b'{"a":{"usage":{"prompt_tokens":9}},"b":1}', Usage(), id="nested-usage-is-not-the-answers"),
        pytest.param(b'{"usage":{"prompt_tokens":1},"a":{"usage":{"prompt_tokens":9}}}', Usage(1), id="top-level-only"),
        pytest.param(b'{"usage":{"prompt_tokens":1},"object":"usage"}', Usage(1), id="usage-as-a-value"),
        pytest.param(b'{"text":"\\"usage\\":{\\"prompt_tokens\\":9}"}', Usage(), id="usage-inside-a-text"),
        pytest.param(b'{"usage":null}', Usage(), id="null"),
        pytest.param(b'{"usage":{"prompt_tokens":1}', Usage(), id="cut-off"),
        pytest.param(b"\x1f\x8b\x08\x00", Usage(), id="not-json"),
        pytest.param(b"", Usage(), id="empty"),
    ],
)
def test_json(body: bytes, expected: Usage) -> None:
    assert read(JsonUsageReader(), body) == expected
    assert read(JsonUsageReader(), *(bytes([byte]) for byte in body)) == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        pytest.param("5", 5, id="count"),
        pytest.param("0", 0, id="zero"),
        pytest.param("-1", None, id="negative"),
        pytest.param("1.5", None, id="fraction"),
        pytest.param("true", None, id="boolean"),
        pytest.param('"5"', None, id="text"),
        pytest.param("9" * 40, None, id="huge"),
        pytest.param("NaN", None, id="not-a-number"),
    ],
)
def test_only_sensible_counts_are_taken(stated: str, expected: int | None) -> None:
    body = f'{{"usage":{{"prompt_tokens":{stated}}}}}'.encode()
    assert read(JsonUsageReader(), body).prompt_tokens == expected
    assert read(SseUsageReader(), b"data: " + body + b"\n\n").prompt_tokens == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        pytest.param("chat_stream_usage.http", Usage(10, 5, 15, cached_tokens=0), id="chat-stream"),
        pytest.param("completions_stream.http", Usage(), id="stream-without-usage"),
        pytest.param("chat_nonstream.http", Usage(17, 8, 25, cached_tokens=0), id="chat"),
        pytest.param("responses_nonstream.http", Usage(12, 5, 17, cached_tokens=0, reasoning_tokens=0), id="responses"),
        pytest.param("messages_nonstream.http", Usage(10, 5, 15, cached_tokens=0), id="anthropic"),
        pytest.param("error_bad_json.http", Usage(), id="error"),
    ],
)
def test_real_answers(file: str, expected: Usage) -> None:
    head, _, body = (FIXTURES / file).read_bytes().partition(b"\r\n\r\n")
    content_type = next(
        line.partition(":")[2].strip()
        for line in head.decode().splitlines()
        if line.lower().startswith("content-type:")
    )
    reader = usage_reader_for(content_type)
    assert reader is not None
    assert read(reader, body) == expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        pytest.param("text/event-stream; charset=utf-8", SseUsageReader, id="stream"),
        pytest.param("Text/Event-Stream", SseUsageReader, id="any-case"),
        pytest.param("application/json", JsonUsageReader, id="json"),
        pytest.param("application/json;charset=utf-8", JsonUsageReader, id="json-with-parameter"),
        pytest.param("application/vnd.x+json", JsonUsageReader, id="json-suffix"),
        pytest.param("application/jsonl", type(None), id="not-json"),
        pytest.param("audio/mpeg", type(None), id="audio"),
        pytest.param("", type(None), id="absent"),
    ],
)
def test_the_reader_follows_the_content_type(content_type: str, expected: type) -> None:
    assert type(usage_reader_for(content_type)) is expected


def test_events_that_cannot_be_read_are_counted_and_the_others_still_read() -> None:
    reader = SseUsageReader(max_event_bytes=200)
    reader.feed(b'data: {"usage":{"prompt\n\n')
    reader.feed(b'data: {"usage":{}, "x":"' + b"y" * 300)
    reader.feed(b'"}\n\ndata: ' + CHAT + b"\n\n")
    assert reader.finish() == CHAT_USAGE
    assert reader.lost_events == 2


def test_the_usage_so_far_can_be_asked_for() -> None:
    reader = SseUsageReader()
    reader.feed(b"data: " + CHAT + b"\n\n")
    assert reader.usage == CHAT_USAGE


def test_a_key_that_only_ends_like_usage_is_another_key() -> None:
    assert read(JsonUsageReader(), b'{"usage":{"prompt_tokens":1},"my\\"usage":{"prompt_tokens":2}}') == Usage(1)


def test_usage_at_the_end_of_a_body_above_the_bound_is_read() -> None:
    reader = JsonUsageReader(max_tail_bytes=100)
    usage = read(reader, b'{"data":[', *[b"0.125," * 10] * 20, b'1],"usage":{"prompt_tokens":8}}')
    assert usage == Usage(prompt_tokens=8)
    assert reader.truncated


def test_usage_before_the_kept_end_is_lost_not_guessed() -> None:
    reader = JsonUsageReader(max_tail_bytes=100)
    assert read(reader, b'{"usage":{"prompt_tokens":8},"data":[', *[b"0.125," * 10] * 20, b"1]}") == Usage()
    assert reader.truncated


@pytest.mark.parametrize("depth", [100_000])
def test_deep_nesting_is_no_usage(depth: int) -> None:
    hostile = b'{"usage":' + b"[" * depth + b"]" * depth + b"}"
    assert read(JsonUsageReader(), hostile) == Usage()
    assert read(SseUsageReader(), b"data: " + hostile + b"\n\n") == Usage()


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        JsonUsageReader(max_tail_bytes=0)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([CHAT, RESPONSES, MESSAGE_START, MESSAGE_DELTA, TEXT, b"[DONE]", b'{"usage"', b"x" * 300]),
        st.sampled_from([b"data: ", b"data:", b": ", b"event: x\ndata: ", b"\ndata: "]),
        st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\n"]),
    ),
    max_size=6,
).map(lambda parts: b"".join(prefix + data + end for data, prefix, end in parts))
CUTS = st.lists(st.integers(min_value=0, max_value=3000), max_size=12)


@given(EVENTS, CUTS)
def test_no_split_changes_what_a_stream_says(stream: bytes, cuts: list[int]) -> None:
    whole, split = SseUsageReader(max_event_bytes=256), SseUsageReader(max_event_bytes=256)
    assert read(split, *split_at(stream, cuts)) == read(whole, stream)
    assert split.lost_events == whole.lost_events


@given(st.binary(max_size=60), st.sampled_from([CHAT, RESPONSES, b""]), st.binary(max_size=60), CUTS)
def test_no_bytes_raise_and_no_split_changes_what_a_body_says(
    before: bytes, middle: bytes, after: bytes, cuts: list[int]
) -> None:
    body = before + middle + after
    expected = read(JsonUsageReader(max_tail_bytes=90), body)
    assert read(JsonUsageReader(max_tail_bytes=90), *split_at(body, cuts)) == expected
    read(SseUsageReader(), body)


JSON_VALUES = st.recursive(
    st.sampled_from([None, True, 3, "", "usage", '"usage":{', "\\", '\\"usage"']),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["usage", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON_VALUES), st.integers(0, 1000), st.booleans())
def test_only_the_top_level_usage_counts(others: dict[str, object], tokens: int, first: bool) -> None:
    usage = {"usage": {"prompt_tokens": tokens}}
    body = {**usage, **others} if first else {**others, **usage}
    assert read(JsonUsageReader(), json.dumps(body).encode()) == Usage(prompt_tokens=tokens)
    assert read(JsonUsageReader(), json.dumps(others).encode()) == Usage()
