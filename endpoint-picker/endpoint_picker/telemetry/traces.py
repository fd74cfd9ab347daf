"""Tracing as a whole: from the decision about a request to its spans at the collector. Needs the extra ``otel``."""

import asyncio
import random
from collections.abc import Callable

from opentelemetry.sdk.trace import TracerProvider

from endpoint_picker.config.tracing import TracingSettings
from endpoint_picker.requestcontrol.ports import Clock
from endpoint_picker.telemetry.span_export import SpanExport, make_exporter
from endpoint_picker.telemetry.span_queue import SpanOutcome
from endpoint_picker.telemetry.spans import resource_of, sample_by
from endpoint_picker.telemetry.tracing import RequestTracer


class Traces:
    """The tracer of one picker and the export behind it.

    Args:
        settings: How spans are exported; the sampler comes from the environment.
        instance_id: Distinguishes this process.
        rng: Draws ids.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.
        limit_seconds: A request of which nothing was reported for so long ends with an error.
        counted: Hears what became of how many spans; called in any thread.

    Attributes:
        tracer: Learns of requests.
    """

    def __init__(
        self,
        settings: TracingSettings,
        *,
        instance_id: str,
        rng: random.Random,
        clock: Clock,
        wall_clock: Clock,
        limit_seconds: float,
        counted: Callable[[SpanOutcome, int], None],
    ) -> None:
        self._export = SpanExport(make_exporter(settings), resource_of(instance_id), settings, counted)
        self.tracer = RequestTracer(
            sample_by(TracerProvider(shutdown_on_exit=False).sampler),
            self._export.put,
            rng=rng,
            clock=clock,
            wall_clock=wall_clock,
            limit_seconds=limit_seconds,
        )

    def start(self) -> None:
        """Begin to export."""
        self._export.start()

    async def close(self) -> None:
        """Export what waits, for a bounded time."""
        self.tracer.flush()
        await asyncio.to_thread(self._export.close)
