"""What was checked and what came of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


class CheckFailedError(Exception):
    """Something was found to be other than it should be."""


def require(condition: object, message: str) -> None:
    """Raise CheckFailedError with *message* unless *condition* holds."""
    if not condition:
        raise CheckFailedError(message)


def require_equal(found: object, expected: object, subject: str) -> None:
    """Raise CheckFailedError unless *found* equals *expected*."""
    require(found == expected, f"{subject}: expected {expected!r}, found {found!r}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check."""

    name: str
    passed: bool
    detail: str
    seconds: float


@dataclass(slots=True)
class Report:
    """Runs checks one after the other and remembers their outcomes."""

    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], str]) -> None:
        """Run *check*, which returns a line about what it saw or raises."""
        started = time.monotonic()
        try:
            detail, passed = check(), True
        except Exception as error:  # noqa: BLE001 - one broken check must not hide the outcomes of the others
            detail, passed = f"{type(error).__name__}: {error}", False
        outcome = Outcome(name, passed, detail, time.monotonic() - started)
        self.outcomes.append(outcome)
        print(f"{'PASS' if passed else 'FAIL'}  {name}", flush=True)

    @property
    def passed(self) -> bool:
        """Whether there were checks and all of them passed."""
        return bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)

    def print_table(self) -> None:
        """Print one line per check, then the sum."""
        width = max((len(outcome.name) for outcome in self.outcomes), default=0)
        print()
        for outcome in self.outcomes:
            verdict = "PASS" if outcome.passed else "FAIL"
            print(f"{verdict}  {outcome.name:<{width}}  {outcome.seconds:6.1f} s  {outcome.detail}")
        failed = sum(not outcome.passed for outcome in self.outcomes)
        print(f"\n{len(self.outcomes) - failed} of {len(self.outcomes)} checks passed")
