"""Chat requests with the token lengths of a trace, the same text for the same request and seed.

Tokens are those of the simulated model server: four bytes each, and three for the chat's markers.
"""

import json
import random
from functools import lru_cache
from typing import Final

from benchmarks.fast_server import MODEL
from benchmarks.trace_files import TraceRequest

TOKEN_BYTES: Final = 4
CHAT_TOKENS: Final = 3
"""Tokens of a chat with one message beyond its text."""
BLOCK_TOKENS: Final = 512

_BOOK_WORDS: Final = 65_536
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def prompt_text(request: TraceRequest, number: int, seed: int) -> str:
    """Return the text of request *number* of a trace.

    Blocks with equal ids begin with equal text; a request without ids shares no beginning with another.
    """
    tokens = max(1, request.prompt_tokens - CHAT_TOKENS)
    length = tokens * TOKEN_BYTES
    if not request.block_ids:
        return f"r{number:x} {_cut(number, seed, length)}"[:length]
    block = BLOCK_TOKENS * TOKEN_BYTES
    parts = [f"b{block_id:x} {_cut(block_id, seed, block)}"[:block] for block_id in request.block_ids]
    text = "".join(parts)[:length]
    # A trace that lists too few blocks gets the rest unshared.
    return text if len(text) == length else text + f"r{number:x} {_cut(number, seed, length)}"[: length - len(text)]


def chat_body(request: TraceRequest, number: int, seed: int) -> bytes:
    """Return the body of a streamed chat completion of exactly the trace's lengths."""
    message = {"role": "user", "content": prompt_text(request, number, seed)}
    body = {
        "model": MODEL,
        "messages": [message],
        "max_tokens": request.output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _cut(number: int, seed: int, length: int) -> str:
    """Return *length* characters from a place of the book that follows from *number*."""
    book = _book(seed)
    start = number * 7919 * TOKEN_BYTES % len(book)
    return (book * ((start + length) // len(book) + 1))[start : start + length]


@lru_cache(maxsize=4)
def _book(seed: int) -> str:
    source = random.Random(seed)
    return "".join(f"{''.join(source.choices(_LETTERS, k=3))} " for _ in range(_BOOK_WORDS))
