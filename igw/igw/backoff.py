"""How long to wait before a child that died is started again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling delays with jitter that start over once a child has stayed healthy.

    Attributes:
        first_seconds: Delay before the first restart.
        longest_seconds: No delay is longer.
        healthy_seconds: A child that was ready this long counts as recovered.
        jitter: Fraction of the delay that chance may take away, 0 to 1.
    """

    first_seconds: float = 0.25
    longest_seconds: float = 10.0
    healthy_seconds: float = 20.0
    jitter: float = 0.2

    def delay_seconds(self, failures: int, chance: random.Random) -> float:
        """Return the delay after *failures* (at least 1) deaths in a row."""
        # The exponent is bounded because a float is: 2**1100 is no delay but an OverflowError.
        doubled = self.first_seconds * 2.0 ** min(failures - 1, 60)
        return min(self.longest_seconds, doubled) * (1.0 - self.jitter * chance.random())

    def failures_after(self, failures: int, ready_seconds: float) -> int:
        """Return how many deaths in a row there are, after one that followed *ready_seconds* of readiness."""
        return 1 if ready_seconds >= self.healthy_seconds else failures + 1
