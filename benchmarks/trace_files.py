"""Request traces: when requests came and how long they were, from Azure's CSV or Mooncake's JSON lines.

Traces are foreign files: a line that cannot be read is an error with its number, never a guess.
"""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Final, cast

# The seventh decimal of a second is more than datetime reads.
_TIMESTAMP_CHARACTERS: Final = 26
_AZURE_HEAD: Final = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


class TraceUnreadableError(Exception):
    """A trace file is not of a known form; the message says where."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace.

    Attributes:
        seconds: Arrival after the first request.
        prompt_tokens: At least 1.
        output_tokens: At least 1.
        block_ids: Ids of the prompt's 512-token blocks; equal ids mean equal text up to there. Empty: nothing shared.
    """

    seconds: float
    prompt_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...] = ()


def read_trace(path: Path) -> list[TraceRequest]:
    """Return the requests of *path* in order of arrival; its name tells the form, ``.gz`` is unpacked.

    Raises:
        TraceUnreadableError: It is neither Azure's CSV nor Mooncake's JSON lines, or has no request.
    """
    name = path.name.removesuffix(".gz")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        lines = raw.decode("utf-8").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        msg = f"{path}: {error}"
        raise TraceUnreadableError(msg) from error
    if name.endswith(".csv"):
        found = list(_numbered(path, _azure(lines)))
    elif name.endswith(".jsonl"):
        found = list(_numbered(path, _mooncake(lines)))
    else:
        msg = f"{path}: expected a name that ends in .csv or .jsonl, or one of these and .gz"
        raise TraceUnreadableError(msg)
    if not found:
        msg = f"{path}: no request in it"
        raise TraceUnreadableError(msg)
    first = min(request.seconds for request in found)
    return sorted((replace(r, seconds=r.seconds - first) for r in found), key=lambda r: r.seconds)


def shape_trace(
    requests: Iterable[TraceRequest], *, minutes: float, speed: float, max_prompt_tokens: int, max_output_tokens: int
) -> list[TraceRequest]:
    """Return the first *minutes* of a trace with arrivals *speed* times as fast and lengths cut to the bounds.

    The minutes are those of the replay: at twice the speed they hold twice the trace.
    """
    shaped = (
        replace(
            r,
            seconds=r.seconds / speed,
            prompt_tokens=min(r.prompt_tokens, max_prompt_tokens),
            output_tokens=min(r.output_tokens, max_output_tokens),
        )
        for r in requests
    )
    return list(takewhile(lambda r: r.seconds < minutes * 60, shaped))


def _numbered(path: Path, requests: Iterator[TraceRequest]) -> Iterator[TraceRequest]:
    """Pass *requests* on and turn what is wrong with one into an error that says which."""
    number = 0
    while True:
        try:
            request = next(requests, None)
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{path}: request {number + 1}: {error}"
            raise TraceUnreadableError(msg) from error
        if request is None:
            return
        number += 1
        yield request


def _azure(lines: list[str]) -> Iterator[TraceRequest]:
    rows = csv.reader(lines)
    if next(rows, None) != _AZURE_HEAD:
        msg = f"the first line must be {','.join(_AZURE_HEAD)}"
        raise ValueError(msg)
    for row in rows:
        if row:
            arrival, prompt, output = row
            seconds = datetime.fromisoformat(arrival[:_TIMESTAMP_CHARACTERS]).timestamp()
            yield TraceRequest(seconds, max(1, int(prompt)), max(1, int(output)))


def _mooncake(lines: list[str]) -> Iterator[TraceRequest]:
    for line in lines:
        if line.strip():
            entry = cast("dict[str, object]", json.loads(line))
            lengths = (entry["input_length"], entry["output_length"])
            prompt, output = (max(1, int(cast("int", length))) for length in lengths)
            ids = tuple(cast("list[int]", entry.get("hash_ids", [])))
            yield TraceRequest(float(cast("float", entry["timestamp"])) / 1000, prompt, output, ids)
