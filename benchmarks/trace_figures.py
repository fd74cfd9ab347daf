"""What the replay of a trace says of one arm, and the tables of a run."""

from dataclasses import dataclass, field
from typing import Final

from benchmarks.open_loop import Replayed
from benchmarks.quantiles import Summary
from benchmarks.server_counts import ServerCounts
from benchmarks.text_table import table

TOO_LATE_SECONDS: Final = 0.1
"""Lateness of sending, 99th percentile, from which on the client itself did not get the processor when it should."""


@dataclass(slots=True)
class ArmResult:
    """Everything measured of one arm, over all its slices.

    Attributes:
        replayed: Every request.
        servers: What each model server counted, slices added up.
        cpu_seconds: CPU time by process: ``picker``, ``envoy``, ``servers``, ``client``.
        seconds: From the first request to the last answer, slices added up.
    """

    replayed: list[Replayed] = field(default_factory=list)
    servers: list[ServerCounts] = field(default_factory=list)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def errors(self) -> list[str]:
        """What failed."""
        return [one.exchange.error for one in self.replayed if one.exchange.error]

    def add(self, other: "ArmResult") -> None:
        """Take in another slice."""
        self.replayed += other.replayed
        self.seconds += other.seconds
        self.servers = (
            [_sum(pair) for pair in zip(self.servers, other.servers, strict=True)] if self.servers else other.servers
        )
        for name, seconds in other.cpu_seconds.items():
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + seconds

    def figures(self) -> "Figures":
        """Return the figures of the report."""
        good = [one.exchange for one in self.replayed if not one.exchange.error]
        asked = sum(one.request.prompt_tokens for one in self.replayed if not one.exchange.error)
        output = sum(exchange.completion_tokens for exchange in good)
        return Figures(
            requests=len(good),
            errors=len(self.errors),
            ttft_seconds=Summary.of([exchange.ttft_seconds for exchange in good]),
            tpot_seconds=Summary.of([t for exchange in good if (t := exchange.tpot_seconds) is not None]),
            e2e_seconds=Summary.of([exchange.seconds for exchange in good]),
            requests_per_second=len(good) / self.seconds,
            output_tokens_per_second=output / self.seconds,
            prompt_tokens_ratio=sum(exchange.prompt_tokens for exchange in good) / max(1, asked),
            late_seconds=Summary.of([one.late_seconds for one in self.replayed]),
            requests_per_server=[server.requests for server in self.servers],
            preemptions=sum(server.preemptions for server in self.servers),
            cached_share=sum(s.cached_tokens for s in self.servers)
            / max(1, sum(s.prompt_tokens for s in self.servers)),
            cpu_ms_per_request={name: s * 1000 / max(1, len(self.replayed)) for name, s in self.cpu_seconds.items()},
            cores={name: seconds / self.seconds for name, seconds in self.cpu_seconds.items()},
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """The report of one arm; times are real seconds at the client."""

    requests: int
    errors: int
    ttft_seconds: Summary
    tpot_seconds: Summary
    e2e_seconds: Summary
    requests_per_second: float
    output_tokens_per_second: float
    prompt_tokens_ratio: float
    late_seconds: Summary
    requests_per_server: list[int]
    preemptions: int
    cached_share: float
    cpu_ms_per_request: dict[str, float]
    cores: dict[str, float]


def report(figures: dict[str, Figures]) -> str:
    """Return the tables of a run; times in seconds, TPOT in milliseconds."""

    def times(one: Summary, scale: float, digits: int) -> list[str]:
        return [f"{value * scale:.{digits}f}" for value in (one.mean, one.p50, one.p90, one.p99)]

    def row(arm: str, one: Figures) -> list[str]:
        summaries = [*times(one.ttft_seconds, 1, 3), *times(one.tpot_seconds, 1000, 1), *times(one.e2e_seconds, 1, 2)]
        return [arm, str(one.requests), str(one.errors), *summaries]

    def second_row(arm: str, one: Figures) -> list[str]:
        cpu = [f"{one.cpu_ms_per_request.get(name, 0.0):.2f}" for name in ("picker", "envoy")]
        share = "/".join(str(count) for count in one.requests_per_server)
        rates = [f"{one.requests_per_second:.2f}", f"{one.output_tokens_per_second:.0f}"]
        tail = [
            f"{sum(one.cores.values()):.2f}",
            f"{one.late_seconds.p99 * 1000:.0f}",
            f"{one.prompt_tokens_ratio:.4f}",
        ]
        return [arm, *rates, share, str(one.preemptions), f"{one.cached_share:.1%}", *cpu, *tail]

    heads = ["arm", "requests", "errors"]
    heads += [f"{what} {figure}" for what in ("TTFT s", "TPOT ms", "E2E s") for figure in ("mean", "p50", "p90", "p99")]
    second = ["arm", "req/s", "tok/s", "requests per server", "preempted", "cached"]
    second += ["picker ms/req", "envoy ms/req", "cores of all", "late p99 ms", "prompt tokens"]
    parts = [
        table(heads, [row(arm, one) for arm, one in figures.items()]),
        table(second, [second_row(arm, one) for arm, one in figures.items()]),
    ]
    if late := [arm for arm, one in figures.items() if one.late_seconds.p99 > TOO_LATE_SECONDS]:
        parts.append(
            f"Requests were sent late ({', '.join(late)}): the machine was too busy, do not compare these arms."
        )
    return "\n\n".join(parts)


def _sum(pair: tuple[ServerCounts, ServerCounts]) -> ServerCounts:
    first, second = pair
    return ServerCounts(
        first.requests + second.requests,
        first.prompt_tokens + second.prompt_tokens,
        first.output_tokens + second.output_tokens,
        first.cached_tokens + second.cached_tokens,
        first.preemptions + second.preemptions,
    )
