"""What a fuzzer needs of one reader, and the bounds that hold for all of them."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")

_REPEATED_AT_MOST = 1 << 15


@dataclass(frozen=True, slots=True)
class Target:
    """One reader under test.

    Attributes:
        name: Name on the command line and of its folders.
        check: Gives the reader one input; raises whatever is not as it must be.
        generate: Makes an input that is well formed for the most part.
        seeds: Inputs to start from.
        tokens: Words of the format, to put into inputs.
    """

    name: str
    check: Callable[[bytes], None]
    generate: Callable[[random.Random], bytes]
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...]


class Draws:
    """Small choices read from the front of an input; a used-up input goes on as zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return max(0, len(self._data) - self._at)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def number(self) -> int:
        """Return 0 to 65535."""
        return self.byte() << 8 | self.byte()

    def pick(self, choices: Sequence[_T]) -> _T:
        return choices[self.byte() % len(choices)]

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(self.left)

    def repeated_rest(self, most: int = _REPEATED_AT_MOST) -> bytes:
        """Return the rest, in one of 32 cases with a piece repeated up to *most* bytes: what is slow shows then."""
        how, where, length = self.byte(), self.byte(), self.byte()
        rest = self.rest()
        if how % 32 != 31 or not rest:
            return rest
        start = where * len(rest) // 256
        piece = rest[start : start + length + 1]
        count = min(1 << 2 * (how >> 5) + 3, max(1, most // len(piece)))
        return rest[:start] + piece * count + rest[start + len(piece) :]


def plain(rest: bytes, *choices: int) -> bytes:
    """Return the input that draws *choices* and then, unrepeated, *rest*."""
    return bytes((*choices, 0, 0, 0)) + rest


@contextmanager
def bounded(size_bytes: int, *, seconds: float = 0.5, seconds_per_megabyte: float = 20.0) -> Iterator[None]:
    """Check that what is done takes no more processor time than its input may ask for.

    The bounds are generous to instrumented code on a slow machine: what goes beyond them grows faster than its input.
    """
    start = time.process_time()
    yield
    took = time.process_time() - start
    most = seconds + seconds_per_megabyte * size_bytes / 1e6
    assert took <= most, f"{size_bytes} bytes took {took:.1f} s"


def cuts(data: bytes, seed: int) -> list[bytes]:
    """Return *data* in pieces, by *seed*: one by one, empty ones among them, or anywhere."""
    rng = random.Random(seed)
    if len(data) <= 512 and seed % 4 == 0:
        return [data[i : i + 1] for i in range(len(data))]
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 24)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
