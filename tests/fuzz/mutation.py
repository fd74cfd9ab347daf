"""Changes to inputs where no coverage guides them, and pieces of generated inputs where it does."""

import random

from fuzz.target import Target

_MOST_CHANGES = 6


def insert_piece(target: Target, data: bytes, rng: random.Random) -> bytes:
    """Return *data* with a token, or a piece of a generated input, put in or in place of something."""
    piece = rng.choice(target.tokens)
    if rng.random() < 0.3:
        other = target.generate(rng)
        start = rng.randrange(len(other) + 1)
        piece = other[start : start + rng.randrange(1, 64)]
    start = rng.randrange(len(data) + 1)
    return data[:start] + piece + data[start + rng.choice((0, 0, len(piece), rng.randrange(1, 9))) :]


def mutate(target: Target, data: bytes, rng: random.Random) -> bytes:
    """Return *data* after a few random changes."""
    for _ in range(rng.randrange(1, _MOST_CHANGES)):
        at = rng.randrange(len(data) + 1)
        upto = at + rng.randrange(1, 17)
        match rng.randrange(6):
            case 0 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
            case 1:
                data = data[:at] + data[upto:]
            case 2:
                data = data[:upto] + data[at:]
            case 3:
                data = data[:at] + rng.randbytes(rng.randrange(1, 5)) + data[at:]
            case _:
                data = insert_piece(target, data, rng)
    return data


def next_input(target: Target, rng: random.Random) -> bytes:
    """Return an input: generated, a seed, or one of these changed."""
    data = target.generate(rng) if rng.random() < 0.7 else rng.choice(target.seeds)
    return data if rng.random() < 0.3 else mutate(target, data, rng)
