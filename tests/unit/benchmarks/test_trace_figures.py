"""Slices of an arm add up, and a run whose requests were sent late says that it proves nothing."""

from benchmarks.client import Exchange
from benchmarks.open_loop import Replayed
from benchmarks.server_counts import ServerCounts
from benchmarks.trace_figures import ArmResult, report
from benchmarks.trace_files import TraceRequest


def result(*, late_seconds: float = 0.0, error: str = "") -> ArmResult:
    exchange = Exchange(10.0, 10.5, 12.5, prompt_tokens=100, completion_tokens=21, error=error)
    return ArmResult(
        replayed=[Replayed(TraceRequest(0.0, 100, 21), exchange, late_seconds)],
        servers=[ServerCounts(1, 100, 21, 50, 0), ServerCounts(0, 0, 0, 0, 0)],
        cpu_seconds={"picker": 0.002, "envoy": 0.004},
        seconds=2.0,
    )


def test_figures_of_one_request() -> None:
    figures = result().figures()
    assert (figures.ttft_seconds.p50, figures.tpot_seconds.p50, figures.e2e_seconds.p50) == (0.5, 0.1, 2.5)
    assert (figures.prompt_tokens_ratio, figures.cached_share, figures.requests_per_server) == (1.0, 0.5, [1, 0])
    assert figures.cpu_ms_per_request["picker"] == 2.0


def test_slices_add_up() -> None:
    whole = ArmResult()
    for _ in range(3):
        whole.add(result())
    figures = whole.figures()
    assert (figures.requests, figures.requests_per_server, figures.requests_per_second) == (3, [3, 0], 0.5)


def test_failed_requests_are_counted_and_measured_nowhere() -> None:
    figures = result(error="status 503").figures()
    assert (figures.requests, figures.errors, figures.ttft_seconds.count) == (0, 1, 0)


def test_late_requests_spoil_the_comparison() -> None:
    assert "do not compare" in report({"gateway": result(late_seconds=0.4).figures()})
    assert "do not compare" not in report({"gateway": result(late_seconds=0.02).figures()})
