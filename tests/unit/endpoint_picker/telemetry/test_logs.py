"""One record is one line that its content cannot break out of; a request's line holds facts, never content."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_picker.domain.completion import CompletedRequest
from endpoint_picker.domain.usage import Usage
from endpoint_picker.telemetry.logs import (
    REQUEST_ID,
    JsonFormatter,
    LogForm,
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


def test_set_up_again_replaces_the_former_one(written: Callable[[LogForm], io.StringIO]) -> None:
    first, second = written(LogForm.TEXT), written(LogForm.TEXT)
    logging.getLogger("x").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().endswith(" INFO x once\n")
