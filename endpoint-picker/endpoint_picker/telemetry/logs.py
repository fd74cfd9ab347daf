"""Logging of the picker: one line per record, text or JSON, and one record per request.

What a client sent cannot forge a line: control characters are escaped wherever they come from. Prompts, completions,
credentials and whole header maps are given to no logger.
"""

import json
import logging
import math
import re
import time
from contextvars import ContextVar
from enum import StrEnum
from functools import lru_cache
from typing import Final, TextIO

from endpoint_picker.domain.completion import CompletedRequest

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Id of the request being worked on; every line logged meanwhile carries it."""

MAX_VALUE_CHARACTERS: Final = 1024
"""Longer values are cut."""

_logger = logging.getLogger(__name__)

_COMPLETED: Final = "request completed"

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_UNSAFE: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), 0x2066)
} | {
    ord("\\"): "\\\\",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    **{code: f"\\u{code:04x}" for code in (0x2067, 0x2068, 0x2069, 0xFEFF)},
    **{code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)},
}
_PLAIN_VALUE: Final = re.compile(rf"[!#-<>-\[\]-~]{{1,{MAX_VALUE_CHARACTERS}}}")
"""Values that stand in a text line as they are: ASCII without blanks, quotes, equals signs and backslashes."""
_JSON: Final = json.JSONEncoder(separators=(",", ":"))


class LogForm(StrEnum):
    """How a record is written."""

    TEXT = "text"
    JSON = "json"


def escape(text: str) -> str:
    """Return *text* on one line, without characters that move the cursor or reorder what is seen."""
    shown = text if len(text) <= MAX_VALUE_CHARACTERS else text[:MAX_VALUE_CHARACTERS] + "..."
    return shown if shown.isalnum() and shown.isascii() else shown.translate(_UNSAFE)


class RequestRecord(logging.LogRecord):
    """The record of one completed request: its line is made from *completed* and from nothing else.

    There is one per request, so its fields are not attributes to be searched for and told from a record's own.
    """

    def __init__(self, logger: str, completed: CompletedRequest) -> None:
        super().__init__(logger, logging.INFO, "", 0, _COMPLETED, None, None)
        self.completed = completed


class TextFormatter(logging.Formatter):
    """``time level logger message key=value ...``; a value with blanks or quotes is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line; a traceback follows as indented lines."""
        if isinstance(record, RequestRecord):
            return _request_text(record)
        parts = [_time(record), record.levelname, record.name, escape(record.getMessage())]
        parts += [f"{key}={_quoted(value)}" for key, value in _fields(record).items()]
        line = " ".join(parts)
        trace = _trace(self, record)
        if not trace:
            return line
        return "\n".join((line, *(f"  | {escape(row)}" for row in trace.splitlines())))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        if isinstance(record, RequestRecord):
            return _request_json(record)
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in _fields(record).items() if key not in entry}
        trace = _trace(self, record)
        if trace:
            entry["trace"] = trace
        return _JSON.encode({key: _plain(value) for key, value in entry.items()})


def set_up_logging(stream: TextIO, *, form: LogForm = LogForm.TEXT, level: str = "INFO") -> None:
    """Make all logging of the process go to *stream*; calling it again replaces the former set-up.

    Raises:
        ValueError: There is no such level.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form is LogForm.JSON else TextFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.handlers[:] = [handler]


def log_completion(completed: CompletedRequest, *, logger: logging.Logger = _logger) -> None:
    """Write the one INFO line of a request."""
    if logger.isEnabledFor(logging.INFO):
        logger.handle(RequestRecord(logger.name, completed))


def _request_text(record: RequestRecord) -> str:
    request = record.completed
    line = (
        f"{_time(record)} INFO {record.name} {_COMPLETED} request_id={_shown(request.request_id)}"
        f" model={_shown(request.model)} target_model={_shown(request.target_model)} pool={_shown(request.pool)}"
        f" endpoint={_shown(request.address)} status={request.status} attempts={request.attempts}"
        f" duration_seconds={round(request.duration_seconds, 6)}"
    )
    if request.ttft_seconds is not None:
        line += f" ttft_seconds={round(request.ttft_seconds, 6)}"
    usage = request.usage
    if usage.prompt_tokens is not None:
        line += f" prompt_tokens={usage.prompt_tokens}"
    if usage.cached_tokens is not None:
        line += f" cached_tokens={usage.cached_tokens}"
    if usage.completion_tokens is not None:
        line += f" completion_tokens={usage.completion_tokens}"
    if request.flags:
        line += f" flags={_shown(request.flags)}"
    if request.trace is not None:
        line += f" trace_id={request.trace.trace_id}"
    return f"{line} client_gone=True" if request.client_gone else line


def _request_json(record: RequestRecord) -> str:
    request = record.completed
    entry: dict[str, object] = {
        "time": _time(record),
        "level": "INFO",
        "logger": record.name,
        "message": _COMPLETED,
        "request_id": _cut(request.request_id),
        "model": _cut(request.model),
        "target_model": _cut(request.target_model),
        "pool": _cut(request.pool),
        "endpoint": _cut(request.address),
        "status": request.status,
        "attempts": request.attempts,
        "duration_seconds": _plain(round(request.duration_seconds, 6)),
    }
    if request.ttft_seconds is not None:
        entry["ttft_seconds"] = _plain(round(request.ttft_seconds, 6))
    usage = request.usage
    if usage.prompt_tokens is not None:
        entry["prompt_tokens"] = usage.prompt_tokens
    if usage.cached_tokens is not None:
        entry["cached_tokens"] = usage.cached_tokens
    if usage.completion_tokens is not None:
        entry["completion_tokens"] = usage.completion_tokens
    if request.flags:
        entry["flags"] = _cut(request.flags)
    if request.trace is not None:
        entry["trace_id"] = request.trace.trace_id
    if request.client_gone:
        entry["client_gone"] = True
    return _JSON.encode(entry)


def _time(record: logging.LogRecord) -> str:
    return f"{_whole_second(int(record.created))}.{int(record.msecs):03d}Z"


@lru_cache(maxsize=4)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}
    request_id = REQUEST_ID.get()
    if request_id and "request_id" not in fields:
        fields["request_id"] = request_id
    return fields


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _shown(text: str) -> str:
    return text if _PLAIN_VALUE.fullmatch(text) else _quoted(text)


def _quoted(value: object) -> str:
    text = escape(str(value))
    if text and not any(character in text for character in ' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _plain(value: object) -> object:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= 64 * MAX_VALUE_CHARACTERS else text[: 64 * MAX_VALUE_CHARACTERS] + "..."
