"""One external-processing stream: every mode has its order of answers, and nothing leaves a request undecided."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from ext_proc_messages import (
    FORWARD,
    header_changes,
    kinds,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
    streamed,
)
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.errors import EndpointPickerError, InvalidRequest, RequestTooLarge
from endpoint_picker.extproc.messages import CHUNK_BYTES, ProcessingRequest, ProcessingResponse
from endpoint_picker.extproc.session import BodyMode, DecisionWanted, ExtProcSession, State
from endpoint_picker.requestcontrol.exchange import Answer, Forward
from envoy_config import names

NONE, STREAMED, BUFFERED, PARTIAL, DUPLEX = BodyMode
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'


def session(max_body_bytes: int = 10_000_000) -> ExtProcSession:
    return ExtProcSession(max_body_bytes=max_body_bytes)


def play(
    machine: ExtProcSession, transcript: Sequence[ProcessingRequest], forward: Forward = FORWARD
) -> list[ProcessingResponse]:
    """Return every answer; a decision forwards."""
    answers: list[ProcessingResponse] = []
    for message in transcript:
        step = machine.receive(message)
        answers += machine.forwarded(forward) if isinstance(step, DecisionWanted) else step
    return answers


REPLY = (response_headers(), response_body(b"x"), response_body(b"", end=True))


@pytest.mark.parametrize(
    ("transcript", "expected"),
    [
        pytest.param(
            [request_headers(BUFFERED), request_body(b"{}")], ["request_headers", "request_body"], id="buffered"
        ),
        pytest.param([request_headers(BUFFERED, end=True)], ["request_headers"], id="buffered-without-body"),
        pytest.param(
            [request_headers(BUFFERED), request_body(b"{}", end=False), request_trailers()],
            ["request_headers", "request_body", "request_trailers"],
            id="buffered-with-trailers",
        ),
        pytest.param(
            [request_headers(DUPLEX), request_body(b"{", end=False), request_body(b"}", end=False), request_body()],
            ["request_headers", "request_body"],
            id="full-duplex-with-empty-last-chunk",
        ),
        pytest.param(
            [request_headers(DUPLEX), request_body(b"{}"), request_body(b"", end=True), *REPLY[:1]],
            ["request_headers", "request_body", "response_headers"],
            id="full-duplex-second-end-of-stream",
        ),
        pytest.param(
            [request_headers(DUPLEX), request_body(b"{}", end=False), request_trailers()],
            ["request_headers", "request_body", "request_trailers"],
            id="full-duplex-with-trailers",
        ),
        pytest.param(
            [request_headers(DUPLEX), request_trailers()],
            ["request_headers", "request_body", "request_trailers"],
            id="full-duplex-trailers-alone",
        ),
        pytest.param([request_headers(DUPLEX), request_body()], ["request_headers", "request_body"], id="empty-body"),
        pytest.param(
            [request_headers(STREAMED), request_body(b"a", end=False), request_body(b"b"), *REPLY],
            ["request_headers", "request_body", "request_body", "response_headers", "response_body", "response_body"],
            id="streamed",
        ),
        pytest.param([request_headers(NONE), *REPLY[:1]], ["request_headers", "response_headers"], id="none"),
        pytest.param(
            [request_headers(PARTIAL), request_body(b"{}")], ["request_headers", "request_body"], id="partial-and-whole"
        ),
        pytest.param([request_headers(99)], ["request_headers"], id="unknown-mode-counts-as-none"),
        pytest.param(
            [request_headers(DUPLEX, response_mode=DUPLEX), request_body(b"{}"), *REPLY, response_trailers()],
            ["request_headers", "request_body", "response_headers", "response_body", "response_body"],
            id="response-in-full-duplex",
        ),
        pytest.param(
            [request_headers(BUFFERED), request_body(), response_headers(), response_trailers()],
            ["request_headers", "request_body", "response_headers", "response_trailers"],
            id="response-trailers",
        ),
        pytest.param(
            [request_headers(BUFFERED), response_headers("413"), response_body(b"too large", end=True)],
            ["request_headers", "response_headers", "response_body"],
            id="the-data-plane-answers-before-the-body-came",
        ),
        pytest.param([ProcessingRequest()], [], id="a-message-of-no-kind"),
    ],
)
def test_transcripts(transcript: list[ProcessingRequest], expected: list[str]) -> None:
    assert kinds(play(session(), transcript)) == expected


def test_a_body_without_mode_is_taken_as_full_duplex() -> None:
    answers = play(session(), [request_headers(), request_body(b"{}")])
    assert streamed(answers) == [(b"{}", True)]


def test_the_decision_stands_in_header_and_metadata_alike() -> None:
    answers = play(session(), [request_headers(BUFFERED), request_body(b"{}")])
    changes = header_changes(answers[1])
    assert changes[names.DESTINATION_KEY] == "10.0.0.1:80,10.0.0.2:80"
    assert (changes["x-envoy-max-retries"], changes[names.ROUTE_HEADER], changes[names.CLUSTER_HEADER]) == (
        "1",
        "route",
        "cluster",
    )
    metadata = answers[1].dynamic_metadata.fields
    destination = metadata[names.LB_NAMESPACE].struct_value.fields[names.DESTINATION_KEY].string_value
    assert destination == changes[names.DESTINATION_KEY]
    own = metadata[names.METADATA_NAMESPACE].struct_value.fields
    assert own[names.CORRELATION_ID].string_value == "c-1"
    assert answers[1].request_body.response.clear_route_cache
    assert not answers[1].request_body.response.HasField("body_mutation")


@pytest.mark.parametrize(
    ("headers", "length"),
    [pytest.param({"content_length": "2"}, "3", id="sized"), pytest.param({}, None, id="chunked")],
)
def test_a_new_body_has_its_length_where_the_old_one_had(headers: dict[str, str], length: str | None) -> None:
    answers = play(
        session(), [request_headers(BUFFERED, **headers), request_body(b"{}")], replace(FORWARD, body=b"new")
    )
    assert answers[1].request_body.response.body_mutation.body == b"new"
    assert header_changes(answers[1]).get("content-length") == length


def test_full_duplex_says_the_length_of_what_it_sends() -> None:
    answers = play(session(), [request_headers(DUPLEX), request_body(b"{}")], replace(FORWARD, body=b"new"))
    assert header_changes(answers[0])["content-length"] == "3"
    assert streamed(answers) == [(b"new", True)]


@given(
    st.integers(min_value=0, max_value=3 * CHUNK_BYTES),
    st.lists(st.integers(min_value=0), max_size=6),
    st.booleans(),
)
def test_full_duplex_passes_every_byte_in_small_chunks_however_it_came(
    size: int, cuts: list[int], trailers: bool
) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    edges = [0, *sorted(cut % (size + 1) for cut in cuts), size]
    chunks = [body[start:end] for start, end in itertools.pairwise(edges)]
    messages = [request_headers(DUPLEX), *(request_body(chunk, end=False) for chunk in chunks)]
    messages.append(request_trailers() if trailers else request_body(b"", end=True))
    answers = play(session(), messages)
    sent = streamed(answers)
    assert b"".join(chunk for chunk, _ in sent) == body[:size]
    assert max(len(chunk) for chunk, _ in sent) <= CHUNK_BYTES
    assert [end for _, end in sent] == [False] * (len(sent) - 1) + [not trailers]
    expected = ["request_headers", *["request_body"] * len(sent), *["request_trailers"] * trailers]
    assert kinds(answers) == expected


@pytest.mark.parametrize(
    ("transcript", "error"),
    [
        pytest.param([request_body(b"x")], InvalidRequest, id="body-first"),
        pytest.param([request_trailers()], InvalidRequest, id="trailers-first"),
        pytest.param([request_headers(DUPLEX), request_headers(DUPLEX)], InvalidRequest, id="headers-twice"),
        pytest.param(
            [request_headers(BUFFERED), request_trailers()], InvalidRequest, id="trailers-without-a-buffered-body"
        ),
        pytest.param([request_headers(DUPLEX), request_body(b"x" * 11)], RequestTooLarge, id="too-large"),
        pytest.param(
            [request_headers(BUFFERED, **{"content-length": "11"})], RequestTooLarge, id="announced-too-large"
        ),
        pytest.param(
            [request_headers(DUPLEX, **{"content-length": "9" * 5000})], RequestTooLarge, id="announced-absurd"
        ),
        pytest.param(
            [request_headers(DUPLEX), *[request_body(b"x" * 4, end=False)] * 3],
            RequestTooLarge,
            id="too-large-in-pieces",
        ),
        pytest.param(
            [request_headers(PARTIAL), request_body(b"x", end=False)], RequestTooLarge, id="only-part-is-shown"
        ),
    ],
)
def test_refusals_are_answered_once_and_end_the_stream(
    transcript: list[ProcessingRequest], error: type[EndpointPickerError]
) -> None:
    machine = session(max_body_bytes=10)
    with pytest.raises(error):
        play(machine, transcript)
    (answer,) = machine.answered(Answer(400, b"{}", "c"))
    assert answer.immediate_response.status.code == 400
    assert (machine.state, machine.answered(Answer(400, b"{}"))) == (State.DONE, [])
    assert play(machine, [request_body(b"x"), *REPLY]) == []


def test_the_mode_is_that_of_the_first_message() -> None:
    machine = session()
    machine.receive(request_headers(DUPLEX))
    late = request_body(b"{}")
    late.protocol_config.request_body_mode = BUFFERED  # type: ignore[assignment]
    assert isinstance(machine.receive(late), DecisionWanted)
    assert streamed(machine.forwarded(FORWARD)) == [(b"{}", True)]


def test_a_decision_that_cannot_be_written_leaves_the_request_open_for_an_answer() -> None:
    machine = session()
    machine.receive(request_headers(BUFFERED))
    machine.receive(request_body(b"{}"))
    with pytest.raises(UnicodeEncodeError):
        machine.forwarded(replace(FORWARD, route="\ud800"))
    assert not machine.request_answered
    assert kinds(machine.answered(Answer(500, b"{}"))) == ["immediate_response"]


def test_empty_chunks_cost_no_memory() -> None:
    machine = session()
    play(machine, [request_headers(DUPLEX), *[request_body(b"", end=False)] * 100])
    assert machine._chunks == []


@pytest.mark.parametrize("response_mode", [STREAMED, DUPLEX])
@pytest.mark.parametrize("trailers", [True, False])
@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
def test_the_usage_event_asked_for_is_read_and_taken_out(response_mode: int, trailers: bool, kind: str) -> None:
    machine = session()
    answers = play(
        machine,
        [
            request_headers(BUFFERED, response_mode=response_mode),
            request_body(b"{}"),
            response_headers(kind=kind, served="10.0.0.2:80"),
            response_body(b"data: a\n\n" + USAGE[:20]),
            response_body(USAGE[20:] + b"data: [DONE]\n\n", end=not trailers),
            *([response_trailers()] if trailers else []),
        ],
        replace(FORWARD, strip_usage=True),
    )
    assert answers[2].response_headers.response.header_mutation.remove_headers == ["content-length"]
    bodies = [answer.response_body.response.body_mutation for answer in answers if answer.HasField("response_body")]
    sent = [body.streamed_response.body if response_mode is DUPLEX else body.body for body in bodies]
    assert b"".join(sent) == b"data: a\n\ndata: [DONE]\n\n"
    facts = machine.response
    assert (facts.usage.prompt_tokens, facts.usage.completion_tokens, facts.served) == (3, 2, "10.0.0.2:80")
    assert (facts.complete, facts.status, machine.state) == (True, 200, State.DONE)


def test_a_response_whose_body_is_not_shown_counts_as_seen() -> None:
    machine = session()
    play(machine, [request_headers(BUFFERED), request_body(b"{}"), response_headers("404")])
    assert (machine.response.complete, machine.response.status, machine.awaits_response) == (True, 404, True)


def test_a_response_cut_in_its_body_is_not_complete() -> None:
    machine = session()
    play(machine, [request_headers(BUFFERED, response_mode=STREAMED), request_body(b"{}"), *REPLY[:2]])
    assert not machine.response.complete


@pytest.mark.parametrize(
    "message",
    [request_headers(BUFFERED), request_body(b"x"), request_trailers(), *REPLY, response_trailers()],
    ids=["request-headers", "request-body", "request-trailers", "headers", "body", "last-body", "trailers"],
)
def test_nothing_is_answered_after_the_end(message: ProcessingRequest) -> None:
    machine = session()
    play(machine, [request_headers(BUFFERED), request_body(b"{}"), *REPLY])
    seen = replace(machine.response)
    assert machine.receive(message) == []
    assert (machine.state, machine.response) == (State.DONE, seen)


@pytest.mark.parametrize("status", ["", "abc", "\uff12\uff10\uff10", "9" * 5000])
def test_a_status_that_is_none_reads_as_unknown(status: str) -> None:
    machine = session()
    play(machine, [request_headers(BUFFERED), request_body(b"{}"), response_headers(status)])
    assert machine.response.status == 0


MESSAGES = st.one_of(
    st.builds(
        request_headers,
        st.sampled_from([None, *BodyMode, 77]),
        response_mode=st.sampled_from([*BodyMode]),
        end=st.booleans(),
    ),
    st.builds(request_body, st.binary(max_size=30), end=st.booleans()),
    st.builds(request_trailers),
    st.builds(response_headers, st.sampled_from(["200", "503", "x"]), end=st.booleans()),
    st.builds(response_body, st.binary(max_size=30), end=st.booleans()),
    st.builds(response_trailers),
    st.builds(ProcessingRequest),
)


@given(st.lists(MESSAGES, max_size=14), st.sampled_from(["forward", "answer"]))
def test_any_order_of_messages_raises_only_our_errors_and_leaves_nothing_undecided(
    messages: list[ProcessingRequest], decision: str
) -> None:
    machine = session(max_body_bytes=60)
    sent: list[ProcessingResponse] = []
    for message in messages:
        try:
            step = machine.receive(message)
        except EndpointPickerError:
            sent += machine.answered(Answer(400, b"{}"))
            assert machine.request_answered
            continue
        if isinstance(step, DecisionWanted):
            step = machine.forwarded(FORWARD) if decision == "forward" else machine.answered(Answer(503, b"{}"))
            assert step
            assert machine.request_answered
        sent += step
    found = kinds(sent)
    assert found.count("request_headers") <= 1
    assert found.count("immediate_response") <= 1
    if "immediate_response" in found:
        assert found.index("immediate_response") == len(found) - 1
    order = {"request_headers": 0, "request_body": 1, "request_trailers": 1, "immediate_response": 2}
    ranks = [order[kind] for kind in found if kind in order]
    assert ranks == sorted(ranks)
