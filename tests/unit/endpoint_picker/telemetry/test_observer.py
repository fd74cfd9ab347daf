"""Recent history per endpoint: bounded, by address, gone with its endpoint."""

import pytest

from endpoint_picker.domain.completion import Attempt, CompletedRequest
from endpoint_picker.domain.usage import Usage
from endpoint_picker.telemetry.metrics import PickerMetrics
from endpoint_picker.telemetry.observer import EndpointRecord, PickerObserver

ADDRESS = "10.0.0.1:80"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observer(clock: Clock) -> PickerObserver:
    return PickerObserver(PickerMetrics(clock=clock), clock=clock)


def test_quantiles() -> None:
    record = EndpointRecord()
    assert record.ttft_quantile(0.5) is None
    record.ttfts.extend([0.4, 0.1, 0.3, 0.2])
    assert (record.ttft_quantile(0.5), record.ttft_quantile(0.9), record.ttft_quantile(1.0)) == (0.3, 0.4, 0.4)


def test_speed_is_that_of_the_last_seconds(observer: PickerObserver, clock: Clock) -> None:
    observer.completed(CompletedRequest(address=ADDRESS, usage=Usage(completion_tokens=50)))
    record = observer.records[ADDRESS]
    assert record.tokens_per_second(clock.now) == 5.0
    assert record.tokens_per_second(clock.now + 10.0) is None


@pytest.mark.parametrize(("streaming", "kept"), [(True, 1), (None, 1), (False, 0)])
def test_a_whole_answer_tells_no_time_to_first_token(
    observer: PickerObserver, streaming: bool | None, kept: int
) -> None:
    observer.completed(CompletedRequest(address=ADDRESS, ttft_seconds=0.5, streaming=streaming))
    assert len(observer.records[ADDRESS].ttfts) == kept


def test_history_is_bounded(observer: PickerObserver) -> None:
    for number in range(5000):
        observer.completed(CompletedRequest(address=f"10.0.0.1:{number}", status=200))
    assert len(observer.records) == 4096
    assert "10.0.0.1:4999" in observer.records


def test_an_endpoint_that_is_gone_is_forgotten(observer: PickerObserver) -> None:
    observer.attempted(Attempt("r", ADDRESS, status=500))
    assert observer.records[ADDRESS].failed == 1
    observer.forget(ADDRESS)
    observer.forget(ADDRESS)
    assert ADDRESS not in observer.records


def test_what_never_reached_an_endpoint_has_no_history(observer: PickerObserver) -> None:
    observer.completed(CompletedRequest(status=404))
    assert observer.records == {}


def test_running_requests_end_once(observer: PickerObserver) -> None:
    observer.began("c", "m")
    observer.ended("c")
    observer.ended("c")
    observer.ended("unknown")
    samples = [line for line in observer._metrics.render().decode().splitlines() if "running_requests{" in line]
    assert [line.rpartition(" ")[2] for line in samples] == ["0.0"]
