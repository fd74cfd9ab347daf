"""Logging of the picker: one line per record, text or JSON, and one record per request.

What a client sent cannot forge a line: control characters are escaped wherever they come from. Prompts, completions,
credentials and whole header maps are given to no logger.
"""

import json
import logging
import math
import time
from contextvars import ContextVar
from enum import StrEnum
from typing import Final, TextIO

from endpoint_picker.domain.completion import CompletedRequest

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Id of the request being worked on; every line logged meanwhile carries it."""

MAX_VALUE_CHARACTERS: Final = 1024
"""Longer values are cut."""

_logger = logging.getLogger(__name__)

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


class LogForm(StrEnum):
    """How a record is written."""

    TEXT = "text"
    JSON = "json"


def escape(text: str) -> str:
    """Return *text* on one line, without characters that move the cursor or reorder what is seen."""
    shown = text if len(text) <= MAX_VALUE_CHARACTERS else text[:MAX_VALUE_CHARACTERS] + "..."
    return shown if shown.isalnum() and shown.isascii() else shown.translate(_UNSAFE)


class TextFormatter(logging.Formatter):
    """``time level logger message key=value ...``; a value with blanks or quotes is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line; a traceback follows as indented lines."""
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
        return json.dumps({key: _plain(value) for key, value in entry.items()}, separators=(",", ":"))


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
    if not logger.isEnabledFor(logging.INFO):
        return
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
    logger.info("request completed", extra={key: value for key, value in fields.items() if value is not None})


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}
    request_id = REQUEST_ID.get()
    if request_id and "request_id" not in fields:
        fields["request_id"] = request_id
    return fields


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _quoted(value: object) -> str:
    text = escape(str(value))
    if text and not any(character in text for character in ' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _plain(value: object) -> object:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= 64 * MAX_VALUE_CHARACTERS else text[: 64 * MAX_VALUE_CHARACTERS] + "..."
