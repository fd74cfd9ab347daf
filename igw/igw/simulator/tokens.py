"""A stand-in for a tokeniser and a model: four bytes are a token, and the answer follows from the prompt.

Tokenised text is a byte string of four bytes per token, so that a prompt of 100 KB is neither split into objects nor
copied. Each text of a prompt starts at a token border: what extends a conversation extends its tokens, and an answer
that is sent back as an assistant message has the tokens it was generated with, as with a real chat template.
"""

import random
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import xxhash

TOKEN_BYTES: Final = 4
"""Bytes of UTF-8 per token."""

_ANSWER_TOKENS: Final = 8192
_WORDS: Final = (  # noqa: SIM905 - a list of them would be sixty lines
    "the cat saw our new red hat and ran off for one day but was not sad old dog can see her sun set far out now who "
    "has put two big pot pan tin cup jam egg ham pie tea ice oil oak elm ivy fig yew bee ant owl hen fox cow pig bat"
).split()
# Bytes that UTF-8 text cannot contain, so that no text imitates a marker.
_END: Final = b"\xff\xfe\xff\x00"


def encode_text(text: str) -> bytes:
    """Return the tokens of *text*; the last one is filled up."""
    raw = text.encode("utf-8", "surrogatepass")
    return raw + b"\x00" * (-len(raw) % TOKEN_BYTES)


def encode_ids(ids: Iterable[int]) -> bytes:
    """Return tokens given as numbers; ValueError for one that no tokeniser has."""
    try:
        return array("I", ids).tobytes()
    except OverflowError as error:
        msg = "token ids must be between 0 and 4294967295"
        raise ValueError(msg) from error


def encode_messages(messages: Iterable[tuple[str, str]]) -> bytes:
    """Return the tokens of a chat: for each (role, text) a marker, the text and an end; then the answer's marker."""
    parts = [b"".join((_marker(role), encode_text(text), _END)) for role, text in messages]
    return b"".join((*parts, _marker("assistant")))


def count(tokens: bytes) -> int:
    """Return how many tokens there are."""
    return len(tokens) // TOKEN_BYTES


def ids(tokens: bytes) -> list[int]:
    """Return the tokens as numbers."""
    return array("I", tokens).tolist()


def decode_ids(numbers: Iterable[int]) -> str:
    """Return the text of tokens given as numbers, without markers and filling."""
    return encode_ids(numbers).decode("utf-8", "replace").replace("\x00", "")


def block_hashes(tokens: bytes, block_size: int, salt: str = "") -> Sequence[int]:
    """Return one hash per full block of *tokens*, each depending on all before it and on *salt*."""
    digest = xxhash.xxh3_64_intdigest
    chain = digest(salt.encode("utf-8", "surrogatepass"))
    width = block_size * TOKEN_BYTES
    hashes: list[int] = []
    view = memoryview(tokens)
    for start in range(0, len(tokens) - width + 1, width):
        chain = digest(view[start : start + width], seed=chain)
        hashes.append(chain)
    return hashes


def seed_of(tokens: bytes, choice: int = 0) -> int:
    """Return the number that an answer to *tokens* follows from."""
    return xxhash.xxh3_64_intdigest(tokens, seed=choice)


def answer(seed: int, tokens: int) -> str:
    """Return an answer of exactly *tokens* tokens: three-letter words, each with a space before it."""
    book = _book()
    start = seed % _ANSWER_TOKENS * TOKEN_BYTES
    length = tokens * TOKEN_BYTES
    repeats = (start + length) // len(book) + 1
    return (book * repeats)[start : start + length]


def _marker(role: str) -> bytes:
    return b"\xff" + xxhash.xxh32_digest(role.encode("utf-8", "surrogatepass"))[:3]


@lru_cache(maxsize=1)
def _book() -> str:
    """Return the text that all answers are cut from."""
    source = random.Random(8192)  # noqa: S311 - words of a simulated answer, not a secret
    return "".join(f" {source.choice(_WORDS)}" for _ in range(_ANSWER_TOKENS))
