"""The usage event nobody asked for leaves the stream; every other byte passes as it came."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.requestcontrol.stream_usage_filter import StreamUsageFilter

FIXTURES = Path(__file__).parents[3] / "data" / "vllm_http"

USAGE = b'{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
TEXT = b'{"choices":[{"index":0,"delta":{"content":"\\"choices\\":[] \\"usage\\":{}"}}],"usage":null}'
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def filtered(chunks: list[bytes], limit: int = 1 << 20) -> bytes:
    stream = StreamUsageFilter(max_event_bytes=limit)
    return b"".join([stream.feed(chunk) for chunk in chunks]) + stream.finish()


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b"data: " + USAGE, id="plain"),
        pytest.param(b"data:" + USAGE, id="no-space"),
        pytest.param(b'data: {"usage": {"prompt_tokens": 1}, "choices": [ ]}', id="json-with-spaces"),
        pytest.param(b'data: {"choices":[\ndata: ],"usage":{}}', id="data-on-two-lines"),
        pytest.param(b": note\ndata: " + USAGE, id="with-a-comment"),
    ],
)
def test_the_usage_event_is_removed(event: bytes) -> None:
    assert filtered([b"data: " + TEXT + b"\n\n" + event + b"\n\ndata: [DONE]\n\n"]) == (
        b"data: " + TEXT + b"\n\ndata: [DONE]\n\n"
    )


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b"data: " + TEXT, id="text-that-looks-like-it"),
        pytest.param(b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}', id="usage-beside-a-choice"),
        pytest.param(b'data: {"choices":[],"usage":null}', id="no-usage"),
        pytest.param(b'data: {"choices":[],"prompt_filter_results":[]}', id="opening-event-without-choices"),
        pytest.param(b'data: {"choices":[],"usage":{', id="broken-json"),
        pytest.param(b'data: ["usage","choices"]', id="not-an-object"),
        pytest.param(b": keep-alive", id="comment"),
        pytest.param(b"data: [DONE]", id="done"),
    ],
)
def test_other_events_pass(event: bytes) -> None:
    assert filtered([event + b"\n\n"]) == event + b"\n\n"


def test_a_real_answer_keeps_everything_else() -> None:
    body = (FIXTURES / "chat_stream_usage.http").read_bytes().partition(b"\r\n\r\n")[2]
    events = body.split(b"\n\n")
    expected = b"\n\n".join(event for event in events if b'"choices":[]' not in event)
    assert len(expected) < len(body)
    assert filtered([body]) == expected
    assert filtered([bytes([byte]) for byte in body]) == expected


def test_removed_events_are_counted() -> None:
    stream = StreamUsageFilter()
    stream.feed(b"data: " + TEXT + b"\n\ndata: " + USAGE + b"\n\n")
    assert stream.removed_events == 1


def test_each_event_passes_when_it_is_complete() -> None:
    stream = StreamUsageFilter()
    assert stream.feed(b"data: a") == b""
    assert stream.feed(b"\n\ndata: b\r\n\r") == b"data: a\n\ndata: b\r\n\r"
    assert stream.feed(b"\n") == b"\n"


def test_an_unterminated_usage_event_at_the_end_is_removed() -> None:
    assert filtered([b"data: a\n\ndata: " + USAGE]) == b"data: a\n\n"


def test_an_event_above_the_limit_passes() -> None:
    event = b"data: " + USAGE + b"\n\n"
    assert filtered([event[:30], event[30:]], limit=20) == event


@given(
    st.lists(st.tuples(st.sampled_from([b"data: " + USAGE, b"data: " + TEXT, b": note", b""]), LINE_ENDS, LINE_ENDS)),
    st.lists(st.integers(min_value=0, max_value=1000), max_size=10),
    st.sampled_from([20, 1 << 20]),
)
def test_no_split_changes_a_byte(events: list[tuple[bytes, bytes, bytes]], cuts: list[int], limit: int) -> None:
    stream = b"".join(b"".join(parts) for parts in events)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert filtered(chunks, limit) == filtered([stream], limit)
