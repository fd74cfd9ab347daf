"""What became of the demo's requests."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

_EXAMPLES: Final = 3
# A broken connection is noticed at once; later breaks are not the kill's doing.
_CUT_WITHIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, as its client saw it.

    Attributes:
        model: Model that was asked for.
        kind: ``ok``; ``failed`` before the first token; ``cut`` after it.
        ended_at: Seconds on the load's clock.
        error: What the client was told; empty for ``ok``.
        tokens: Tokens of the answer, by its usage.
    """

    model: str
    kind: Literal["ok", "failed", "cut"]
    ended_at: float
    error: str = ""
    tokens: int = 0


@dataclass(slots=True)
class Tally:
    """Counts outcomes; written by the load, one outcome at a time.

    Attributes:
        ok: Requests answered to the end.
        cut: Streams that had begun on a server that was then killed; nobody can repeat those.
        kills: When a server was killed, seconds on the load's clock.
    """

    ok: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    kills: list[float] = field(default_factory=list)
    _failures: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count *outcome*."""
        if outcome.kind == "ok":
            self.ok[outcome.model] += 1
            self.tokens[outcome.model] += outcome.tokens
        elif outcome.kind == "cut" and self._follows_a_kill(outcome.ended_at):
            self.cut += 1
        else:
            self._failures[f"{outcome.model}: {outcome.error}"[:200]] += 1

    @property
    def failed(self) -> int:
        """Requests that failed for no reason that the demo knows of."""
        return self._failures.total()

    def failures(self) -> Iterator[str]:
        """Yield the most frequent failures with their numbers."""
        for error, count in self._failures.most_common(_EXAMPLES):
            yield f"{count} × {error}" if count > 1 else error  # noqa: RUF001 - a count

    def _follows_a_kill(self, at: float) -> bool:
        return any(0 <= at - killed <= _CUT_WITHIN_SECONDS for killed in self.kills)


def summarise(tally: Tally) -> str:
    """Return the numbers in one line."""
    parts = [f"{tally.ok.total()} requests answered"]
    if tally.cut:
        parts.append(f"{tally.cut} begun stream{'s' * (tally.cut != 1)} cut by the kill")
    parts.append(f"{tally.failed} failed")
    return ", ".join(parts)
