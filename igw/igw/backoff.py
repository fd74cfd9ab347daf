"""How long to wait before a child that died is started again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling delays with jitter that start over once a child has stayed healthy.

    A child that was ready before it died is wanted back at once: something struck it, and clients are waiting. One that
    never became ready will hardly do better the next time, so its delays may grow longer.

    Attributes:
        first_seconds: Delay before the first restart.
        longest_after_ready_seconds: No delay after a death of a ready child is longer.
        longest_seconds: No delay is longer.
        healthy_seconds: A child that was ready this long counts as recovered.
        jitter: Fraction of the delay that chance may take away, 0 to 1.
    """

    first_seconds: float = 0.1
    longest_after_ready_seconds: float = 0.5
    longest_seconds: float = 10.0
    healthy_seconds: float = 10.0
    jitter: float = 0.2

    def delay_seconds(self, failures: int, chance: random.Random, *, was_ready: bool = False) -> float:
        """Return the delay after *failures* (at least 1) deaths in a row, the last of a child that *was_ready* or not.

        The first of them is short either way.
        """
        longest = min(self.longest_seconds, self.longest_after_ready_seconds) if was_ready else self.longest_seconds
        # The exponent is bounded because a float is: 2**1100 is no delay but an OverflowError.
        doubled = self.first_seconds * 2.0 ** min(failures - 1, 60)
        return min(longest, doubled) * (1.0 - self.jitter * chance.random())

    def failures_after(self, failures: int, ready_seconds: float) -> int:
        """Return how many deaths in a row there are, after one that followed *ready_seconds* of readiness."""
        return 1 if ready_seconds >= self.healthy_seconds else failures + 1
