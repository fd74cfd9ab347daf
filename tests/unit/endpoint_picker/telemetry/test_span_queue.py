"""Spans wait in a bounded queue: whatever the collector does, putting one in takes no time and each is counted once."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from endpoint_picker.telemetry.span_queue import SpanOutcome, SpanQueue
from endpoint_picker.telemetry.tracing import TracedRequest

ONE = TracedRequest("0" * 31 + "1", 16)
WAIT = 10.0


@dataclass
class Collector:
    """Takes batches once it is *open*, as far as its *answers* go; then it takes everything."""

    open: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    answers: list[str | Exception] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def export(self, batch: Sequence[TracedRequest]) -> str:
        self.begun.set()
        assert self.open.wait(WAIT)
        self.batches.append(len(batch))
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    def __init__(self, **parts: float) -> None:
        self.collector = Collector()
        self.counts: Counter[SpanOutcome] = Counter()
        sizes = {"max_spans": 8, "max_batch_spans": 4, "delay_seconds": 0.001, **parts}
        self.queue = SpanQueue(self.collector.export, self._count, **sizes)  # type: ignore[arg-type]

    def _count(self, outcome: SpanOutcome, spans: int) -> None:
        self.counts[outcome] += spans


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.collector.open.set()


def test_everything_is_exported_in_batches(world: World) -> None:
    for _ in range(8):
        world.queue.put(ONE)
    world.collector.open.set()
    world.queue.start()
    world.queue.close(WAIT)
    assert world.counts == {SpanOutcome.EXPORTED: 8}
    assert world.collector.batches == [4, 4]


def test_a_full_queue_drops_what_comes(world: World) -> None:
    for _ in range(10):
        world.queue.put(ONE)
    assert world.counts == {SpanOutcome.DROPPED: 2}


def test_a_collector_that_hangs_holds_up_nobody(world: World) -> None:
    world.queue.put(ONE)
    world.queue.start()
    assert world.collector.begun.wait(WAIT)
    for _ in range(100):
        world.queue.put(ONE)  # would block, if anything here waited for the collector
    assert world.counts == {SpanOutcome.DROPPED: 92}
    world.queue.close(0.01)
    assert world.counts == {SpanOutcome.DROPPED: 100}


def test_a_batch_waits_no_longer_than_the_delay() -> None:
    world = World(max_batch_spans=8)
    world.collector.open.set()
    world.queue.start()
    world.queue.put(ONE)
    assert world.collector.begun.wait(WAIT)
    world.queue.close(WAIT)


def test_a_whole_batch_does_not_wait_for_the_delay() -> None:
    world = World(delay_seconds=1000.0)
    world.collector.open.set()
    world.queue.start()
    for _ in range(4):
        world.queue.put(ONE)
    assert world.collector.begun.wait(WAIT)
    world.queue.close(WAIT)


def test_losses_are_counted_and_told_once_until_they_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.collector.answers = ["401 Unauthorized", OSError("gone"), ""]
    world.collector.open.set()
    for _ in range(3 * 4):
        world.queue.put(ONE)
    world.queue.start()
    world.queue.close(WAIT)
    assert world.counts == {SpanOutcome.DROPPED: 4, SpanOutcome.FAILED: 8}
    [record] = caplog.records
    assert record.getMessage().startswith("traces cannot be exported")
    assert record.reason == "401 Unauthorized"  # type: ignore[attr-defined]


def test_a_collector_that_is_back_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(max_spans=100)
    world.collector.answers = [OSError("gone"), ""]
    world.collector.open.set()
    for _ in range(8):
        world.queue.put(ONE)
    world.queue.start()
    world.queue.close(WAIT)
    assert [record.getMessage() for record in caplog.records][-1] == "traces are exported again"
    assert caplog.records[0].reason == "OSError: gone"  # type: ignore[attr-defined]


def test_what_comes_after_the_end_is_dropped(world: World) -> None:
    world.queue.start()
    world.queue.close(WAIT)
    world.queue.put(ONE)
    assert world.counts == {SpanOutcome.DROPPED: 1}
