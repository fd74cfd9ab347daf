"""One record is one line that its content cannot break out of; a request's line holds facts, never content."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.completion import CompletedRequest
from endpoint_picker.domain.trace_context import TraceContext
from endpoint_picker.domain.usage import Usage
from endpoint_picker.telemetry.logs import (
    REQUEST_ID,
    JsonFormatter,
    LogForm,
    RequestRecord,
    TextFormatter,
    escape,
    log_completion,
    set_up_logging,
)

COMPLETED = CompletedRequest(
    request_id="r-1",
    path="/v1/chat/completions",
    model="chat",
    target_model="chat-v1",
    pool="ns/pool",
    address="10.0.0.7:8000",
    status=200,
    attempts=2,
    usage=Usage(prompt_tokens=100, completion_tokens=21),
    ttft_seconds=0.31234567,
    duration_seconds=4.2,
)


@pytest.fixture
def written() -> Iterator[Callable[[LogForm], io.StringIO]]:
    """Give a function that sets logging up on a stream; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def set_up(form: LogForm) -> io.StringIO:
        stream = io.StringIO()
        set_up_logging(stream, form=form)
        return stream

    yield set_up
    root.handlers[:], root.level = handlers, level


def record(message: str = "something happened", **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "name": "test", "levelname": "INFO", "created": 1.5, "msecs": 500})
    vars(made).update(fields)
    return made


def test_text_line() -> None:
    line = TextFormatter().format(record(endpoint="10.0.0.7:8000", problem="it is slow", empty="", quote='a"b'))
    assert line == (
        "1970-01-01T00:00:01.500Z INFO test something happened "
        'endpoint=10.0.0.7:8000 problem="it is slow" empty="" quote="a\\"b"'
    )


def test_json_line() -> None:
    line = JsonFormatter().format(record(status=200, ratio=float("nan"), time="forged", none=None))
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "INFO",
        "logger": "test",
        "message": "something happened",
        "status": 200,
        "ratio": "nan",
        "none": None,
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_request_id_comes_from_the_context(formatter: logging.Formatter) -> None:
    token = REQUEST_ID.set("r-42")
    try:
        assert "r-42" in formatter.format(record())
        assert "r-42" not in formatter.format(record(request_id="r-1"))
    finally:
        REQUEST_ID.reset(token)
    assert "request_id" not in formatter.format(record())


@given(st.text(), st.text())
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_no_content_breaks_the_line(formatter: logging.Formatter, message: str, value: str) -> None:
    line = formatter.format(record(message.replace("%", "%%"), model=value))
    assert len(line.splitlines()) == 1
    assert line.isprintable() or not any(ord(character) < 0x20 for character in line)
    line.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("a\nb\r\tc", "a\\nb\\r\\tc", id="line-ends"),
        pytest.param("\x1b[31m", "\\x1b[31m", id="terminal-escape"),
        pytest.param("a\u2028b\u202eb", "a\\u2028b\\u202eb", id="separators-and-direction"),
        pytest.param("a\\nb", "a\\\\nb", id="backslash-is-not-ambiguous"),
        pytest.param("héllo", "héllo", id="letters"),
        pytest.param("x" * 5000, "x" * 1024 + "...", id="long"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_traceback_cannot_forge_a_line() -> None:
    error = ValueError("bad\n2026-01-01T00:00:00.000Z INFO root all is well")
    made = record(exc_info=(type(error), error, None))
    text = TextFormatter().format(made)
    assert all(line.startswith("  | ") for line in text.splitlines()[1:])
    assert "ValueError" in text
    assert len(JsonFormatter().format(made).splitlines()) == 1


def test_request_line_holds_these_facts_and_no_others(written: Callable[[LogForm], io.StringIO]) -> None:
    stream = written(LogForm.JSON)
    log_completion(COMPLETED)
    entry = json.loads(stream.getvalue())
    assert {key: entry[key] for key in entry if key not in {"time", "logger"}} == {
        "level": "INFO",
        "message": "request completed",
        "request_id": "r-1",
        "model": "chat",
        "target_model": "chat-v1",
        "pool": "ns/pool",
        "endpoint": "10.0.0.7:8000",
        "status": 200,
        "attempts": 2,
        "duration_seconds": 4.2,
        "ttft_seconds": 0.312346,
        "prompt_tokens": 100,
        "completion_tokens": 21,
    }


def as_fields(completed: CompletedRequest) -> dict[str, object]:
    """Return the fields of a request's line in their order, as a record of any other logger would have them."""
    usage = completed.usage
    fields: dict[str, object] = {
        "request_id": completed.request_id,
        "model": completed.model,
        "target_model": completed.target_model,
        "pool": completed.pool,
        "endpoint": completed.address,
        "status": completed.status,
        "attempts": completed.attempts,
        "duration_seconds": round(completed.duration_seconds, 6),
        "ttft_seconds": None if completed.ttft_seconds is None else round(completed.ttft_seconds, 6),
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "flags": completed.flags or None,
        "client_gone": completed.client_gone or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


TEXTS = st.text(max_size=40) | st.sampled_from(["", "chat", "a b", 'a"b', "k=v", "back\\slash", "x" * 1024, "x" * 1025])
COUNTS = st.none() | st.integers(min_value=0, max_value=10**9)
SECONDS = st.floats(min_value=0.0, max_value=1e9) | st.sampled_from([0.0, 1e-9, float("nan"), float("inf")])


@given(
    st.builds(
        CompletedRequest,
        request_id=TEXTS,
        model=TEXTS,
        target_model=TEXTS,
        pool=TEXTS,
        address=TEXTS,
        status=st.integers(min_value=0, max_value=999),
        attempts=st.integers(min_value=0, max_value=9),
        flags=TEXTS,
        client_gone=st.booleans(),
        usage=st.builds(Usage, prompt_tokens=COUNTS, cached_tokens=COUNTS, completion_tokens=COUNTS),
        ttft_seconds=st.none() | SECONDS,
        duration_seconds=SECONDS,
    )
)
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_request_line_is_written_like_any_other(formatter: logging.Formatter, completed: CompletedRequest) -> None:
    made = RequestRecord("test", completed)
    usual = record("request completed", **as_fields(completed))
    usual.created, usual.msecs = made.created, made.msecs
    line = formatter.format(made)
    assert line == formatter.format(usual)
    assert len(line.splitlines()) == 1
    line.encode()


def test_request_line_obeys_the_level(written: Callable[[LogForm], io.StringIO]) -> None:
    stream = written(LogForm.TEXT)
    logging.getLogger().setLevel(logging.WARNING)
    log_completion(COMPLETED)
    assert stream.getvalue() == ""


class Writes(io.StringIO):
    """A stream that remembers what each call wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("form", list(LogForm))
def test_request_line_is_one_write(form: LogForm) -> None:
    stream = Writes()
    set_up_logging(stream, form=form)
    log_completion(COMPLETED)
    assert [piece.count("\n") for piece in stream.pieces] == [1]
    assert stream.pieces[0].endswith("\n")


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        pytest.param(1.999, "1970-01-01T00:00:01.999Z", id="end-of-a-second"),
        pytest.param(2.0, "1970-01-01T00:00:02.000Z", id="next-second"),
        pytest.param(1.5, "1970-01-01T00:00:01.500Z", id="back-again"),
    ],
)
def test_time_of_a_line(created: float, shown: str) -> None:
    line = TextFormatter().format(record(created=created, msecs=created % 1 * 1000))
    assert line.split(" ", 1)[0] == shown


def test_set_up_again_replaces_the_former_one(written: Callable[[LogForm], io.StringIO]) -> None:
    first, second = written(LogForm.TEXT), written(LogForm.TEXT)
    logging.getLogger("x").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().endswith(" INFO x once\n")


@pytest.mark.parametrize("form", list(LogForm))
def test_a_request_in_a_trace_names_it(written: Callable[[LogForm], io.StringIO], form: LogForm) -> None:
    stream = written(form)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    log_completion(replace(COMPLETED, trace=TraceContext(trace, "00f067aa0ba902b7", 0)))
    log_completion(COMPLETED)
    first, second = stream.getvalue().splitlines()
    assert (f"trace_id={trace}" in first) if form is LogForm.TEXT else (json.loads(first)["trace_id"] == trace)
    assert "trace_id" not in second
