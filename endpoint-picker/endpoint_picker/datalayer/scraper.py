"""Read every endpoint's metrics page again and again, busy ones more often, and publish what it says."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from endpoint_picker.datalayer.endpoint_page import PageFetcher, PageProblem, PageTarget, PageUnavailableError
from endpoint_picker.datalayer.endpoint_tasks import EndpointTasks
from endpoint_picker.datalayer.metrics_page import read_page, tells_load
from endpoint_picker.domain.endpoint import EndpointMetrics

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
Publish = Callable[[str, EndpointMetrics | None], None]
"""Told an endpoint's address and its new reading; None: the last one is stale, its state is unknown."""

_JITTER: Final = 0.1  # of an interval, so that endpoints added together drift apart
_STALE_INTERVALS: Final = 3
_READING_SHARE: Final = 0.02
"""Of one processor that reading the pages of one endpoint may take."""


@dataclass(frozen=True, slots=True)
class ScrapeIntervals:
    """How often pages are read; seconds.

    Attributes:
        busy: Between two readings of an endpoint with work; ours or, by its page, anyone's.
        idle: Between two readings of one without.
        longest: Between two tries of one that fails; each failure doubles the interval up to here.
        shortest_timeout: A try may always take this long; else four fifths of the interval.
    """

    busy: float = 0.2
    idle: float = 0.75
    longest: float = 5.0
    shortest_timeout: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.busy <= self.idle <= self.longest:
            msg = f"0 < busy <= idle <= longest must hold, got {self.busy}, {self.idle}, {self.longest}"
            raise ValueError(msg)
        if self.shortest_timeout <= 0:
            msg = f"shortest_timeout must be positive, got {self.shortest_timeout}"
            raise ValueError(msg)

    def timeout_of(self, interval: float) -> float:
        """Return how long a try may take that follows an *interval*."""
        return max(self.shortest_timeout, 0.8 * interval)

    def affordable(self, interval: float, reading_seconds: float) -> float:
        """Return the interval at which a page that takes so long to read costs little; *interval* for usual pages."""
        return max(interval, min(self.longest, reading_seconds / _READING_SHARE))

    def stale_after(self, interval: float) -> float:
        """Return the age at which a reading of an endpoint read every *interval* is worth nothing."""
        return _STALE_INTERVALS * interval + self.timeout_of(interval)

    def after_failures(self, interval: float, failures: int) -> float:
        """Return the interval after so many failures in a row, at least one."""
        return min(self.longest, interval * 2.0 ** min(failures, 16))


class MetricsScraper:
    """Scrapes all endpoints; at most one scrape per endpoint is under way, and none waits for another's.

    Args:
        publish: Called with every reading, and with None once when the last has become stale. Not called for an
            endpoint that is no longer a target.
        in_flight: Our own in-flight requests at an address; asked when a page is asked for.
        failed: Called for every try that brought no usable page.
        clock: Gives `EndpointMetrics.read_at`.
        rng: Source of jitter.
        intervals: How often.
        cpu_clock: Processor time of this thread, in seconds.
    """

    def __init__(
        self,
        *,
        publish: Publish,
        in_flight: Callable[[str], int],
        failed: Callable[[str, PageProblem], None],
        clock: Clock,
        rng: random.Random,
        intervals: ScrapeIntervals | None = None,
        cpu_clock: Clock = time.thread_time,
    ) -> None:
        self._publish = publish
        self._in_flight = in_flight
        self._failed = failed
        self._clock = clock
        self._rng = rng
        self._intervals = intervals or ScrapeIntervals()
        self._cpu_clock = cpu_clock
        self._fetcher = PageFetcher()
        self._tasks = EndpointTasks(self._watch)

    def set_targets(self, targets: Iterable[PageTarget]) -> None:
        """Replace the endpoints to scrape; cheap, may be called at any time in the event loop's thread."""
        self._tasks.set_targets(targets)

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with self._fetcher:
            await self._tasks.run()

    async def _watch(self, target: PageTarget) -> None:
        watch = _Watch(target, self._intervals)
        await asyncio.sleep(self._rng.uniform(0, self._intervals.idle))
        while True:
            problem = await self._scrape(watch)
            if problem is None:
                pause = watch.interval
            else:
                self._note_failure(watch, problem)
                pause = self._intervals.after_failures(watch.interval, watch.failures)
            watch.timeout = self._intervals.timeout_of(pause)
            await self._pause(watch, pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER))

    async def _scrape(self, watch: "_Watch") -> PageProblem | None:
        """Read and publish one page; return what went wrong, None if nothing did."""
        try:
            metrics = await self._read(watch)
        except PageUnavailableError as error:
            return error.problem
        except Exception:  # border of the endpoint's task: one endpoint must not end the scraping of the others
            logger.exception("metrics page could not be read", extra={"endpoint": watch.target.address})
            return PageProblem.INTERNAL
        if watch.failures:
            logger.info("metrics page is back", extra={"endpoint": watch.target.address})
        busy = metrics.waiting_queue_size or metrics.running_requests or self._in_flight(watch.target.address)
        interval = self._intervals.busy if busy else self._intervals.idle
        watch.succeeded(metrics, self._intervals.affordable(interval, watch.reading_seconds))
        self._publish(watch.target.address, metrics)
        return None

    async def _read(self, watch: "_Watch") -> EndpointMetrics:
        """Return the first usable page, beginning with the path that worked last.

        Raises:
            PageUnavailableError: None of the paths has one.
        """
        target = watch.target
        problem: PageUnavailableError | None = None
        deadline = asyncio.get_running_loop().time() + watch.timeout
        for path in watch.paths:
            in_flight = self._in_flight(target.address)
            try:
                page = await self._fetcher.fetch(target, path, deadline=deadline)
            except PageUnavailableError as error:
                if error.problem is not PageProblem.STATUS:
                    raise
                problem = problem or error
                continue
            begun = self._cpu_clock()
            metrics = read_page(page, engine=target.engine, read_at=self._clock(), in_flight_when_read=in_flight)
            watch.reading_seconds = self._cpu_clock() - begun
            if tells_load(metrics):
                watch.prefer(path)
                return metrics
            # What a page lacks says more than that another path has none.
            if metrics.engine:
                problem = PageUnavailableError(PageProblem.NO_LOAD_METRICS)
            elif problem is None or problem.problem is PageProblem.STATUS:
                problem = PageUnavailableError(PageProblem.UNRECOGNISED)
        raise problem or PageUnavailableError(PageProblem.UNRECOGNISED)

    def _note_failure(self, watch: "_Watch", problem: PageProblem) -> None:
        if problem is not watch.problem:
            logger.warning(
                "metrics page is unusable", extra={"endpoint": watch.target.address, "problem": problem.value}
            )
        watch.failures += 1
        watch.problem = problem
        self._failed(watch.target.address, problem)

    async def _pause(self, watch: "_Watch", seconds: float) -> None:
        """Sleep, and on the way publish that the last reading has become stale."""
        if watch.failures and watch.read_at is not None:
            fresh = watch.read_at + self._intervals.stale_after(watch.interval) - self._clock()
            if fresh < seconds:
                await asyncio.sleep(max(0.0, fresh))
                seconds -= max(0.0, fresh)
                watch.read_at = None
                self._publish(watch.target.address, None)
        await asyncio.sleep(seconds)


class _Watch:
    """What the scraper remembers of one endpoint; written by the endpoint's task only."""

    __slots__ = ("failures", "interval", "paths", "problem", "read_at", "reading_seconds", "target", "timeout")

    def __init__(self, target: PageTarget, intervals: ScrapeIntervals) -> None:
        self.target = target
        self.paths = target.paths
        self.interval = intervals.idle
        self.timeout = intervals.timeout_of(intervals.idle)
        self.failures = 0
        self.problem: PageProblem | None = None
        self.read_at: float | None = None
        self.reading_seconds = 0.0

    def prefer(self, path: str) -> None:
        """Try *path* first from now on."""
        if self.paths[0] != path:
            self.paths = (path, *(other for other in self.paths if other != path))

    def succeeded(self, metrics: EndpointMetrics, interval: float) -> None:
        """Note a reading."""
        self.read_at = metrics.read_at
        self.interval = interval
        self.failures = 0
        self.problem = None
