"""What a simulated model server counts about itself for its metrics page."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

FIRST_TOKEN_BOUNDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
BETWEEN_TOKENS_BOUNDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_BOUNDS: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
TOKEN_BOUNDS: Final = (
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0, 100000.0,
)  # fmt: skip

_MOST_ADAPTER_SERIES: Final = 4096


class Histogram:
    """Counts per bucket, their sum and their number.

    Attributes:
        bounds: Upper bounds of the buckets, rising, without infinity.
        counts: One per bound, plus one beyond the last; not cumulative.
        total: Sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    @property
    def number(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class ServerStatistics:
    """Totals of one server since it was made; written by its driver and its handlers.

    Attributes:
        first_token: Seconds from submission to the first token, per sequence.
        between_tokens: Seconds between two tokens.
        request: Seconds from submission to the last token.
        prompt_tokens: Prompt tokens per completed sequence.
        output_tokens: Output tokens per completed sequence.
        finished: Completed sequences by finish reason.
        rejected: Requests refused because the queue was full.
        http_requests: Generation requests that reached a handler.
        in_flight: HTTP requests being answered now.
        adapter_series: Latest time of each pair of running and waiting adapter lists that ever was, newest last.
    """

    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_BOUNDS))
    between_tokens: Histogram = field(default_factory=lambda: Histogram(BETWEEN_TOKENS_BOUNDS))
    request: Histogram = field(default_factory=lambda: Histogram(REQUEST_BOUNDS))
    prompt_tokens: Histogram = field(default_factory=lambda: Histogram(TOKEN_BOUNDS))
    output_tokens: Histogram = field(default_factory=lambda: Histogram(TOKEN_BOUNDS))
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("stop", "length", "abort", "error"), 0))
    rejected: int = 0
    http_requests: int = 0
    in_flight: int = 0
    adapter_series: dict[tuple[str, str], float] = field(default_factory=dict)

    def see_adapters(self, running: Sequence[str], waiting: Sequence[str], unix_seconds: float) -> None:
        """Remember which adapters run and wait now; as in vLLM old combinations stay."""
        key = (",".join(running), ",".join(waiting))
        series = self.adapter_series
        series.pop(key, None)
        if len(series) >= _MOST_ADAPTER_SERIES:
            del series[next(iter(series))]
        series[key] = unix_seconds
