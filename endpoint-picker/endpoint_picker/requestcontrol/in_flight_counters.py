"""Live in-flight counters of one endpoint and of all of them; written by the ledger only."""

from collections.abc import Iterable
from dataclasses import dataclass

from endpoint_picker.requestcontrol.ports import Clock


@dataclass(slots=True)
class Sums:
    """What is only added up."""

    requests: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0


class Counters(Sums):
    """Live counters of one endpoint, with a bucket that prompts fill and time drains.

    Attributes:
        begun: Requests that came to the endpoint since the counters were made.
        elsewhere: Of `requests`, those that another data plane serves than the audited one.
        correction: Of `requests`, what audits added, or took away if negative: `requests` is always the number of
            placements plus this.
        confirmed_at: When the data plane last listed the endpoint.
    """

    __slots__ = (
        "_backlog_at",
        "_backlog_tokens",
        "_clock",
        "_tokens_per_second",
        "begun",
        "confirmed_at",
        "correction",
        "elsewhere",
    )

    def __init__(self, clock: Clock, tokens_per_second: float) -> None:
        super().__init__()
        self._clock = clock
        self._tokens_per_second = tokens_per_second
        self._backlog_tokens = 0.0
        self._backlog_at = 0.0
        self.begun = 0
        self.elsewhere = 0
        self.correction = 0
        self.confirmed_at = 0.0

    @property
    def prefill_backlog_tokens(self) -> float:
        """What has not drained yet."""
        filled = self._backlog_tokens
        if not filled or not self.requests:
            return 0.0
        return max(0.0, filled - (self._clock() - self._backlog_at) * self._tokens_per_second)

    def fill_backlog(self, tokens: float) -> None:
        """Add *tokens*, or take them out if negative, down to 0."""
        self._backlog_tokens = max(0.0, self.prefill_backlog_tokens + tokens)
        self._backlog_at = self._clock()

    def empty_backlog(self) -> None:
        """Leave nothing: there is no request to compute a prompt of."""
        self._backlog_tokens = 0.0


class Totals(Sums):
    """Live sums over all endpoints."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[Counters]) -> None:
        super().__init__()
        self._parts = parts

    @property
    def prefill_backlog_tokens(self) -> float:
        """What has not drained anywhere; takes time in proportion to the endpoints."""
        return sum(part.prefill_backlog_tokens for part in self._parts)
