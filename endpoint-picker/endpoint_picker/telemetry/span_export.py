"""Sends spans to a collector, with the OpenTelemetry SDK's exporters. Needs the extra ``otel``."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from endpoint_picker.config.tracing import OtlpProtocol, SpanExporterKind, TracingSettings
from endpoint_picker.telemetry.span_queue import SpanOutcome, SpanQueue
from endpoint_picker.telemetry.spans import SpanFactory
from endpoint_picker.telemetry.tracing import TracedRequest

CLOSE_SECONDS: Final = 3.0
"""How long the end of the process may wait for spans."""
_LIBRARY: Final = "opentelemetry"


class _LastWords(logging.Handler):
    """Keeps what the library said last, instead of a line for each batch that a dead collector does not take."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage()

    def take(self) -> str:
        words, self.words = self.words, ""
        return words


def make_exporter(settings: TracingSettings) -> SpanExporter:
    """Return the exporter that *settings* ask for; where it sends to is in the environment."""
    if settings.exporter is SpanExporterKind.CONSOLE:
        return ConsoleSpanExporter(out=sys.stdout)
    if settings.protocol is OtlpProtocol.GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - only one of them is needed
            OTLPSpanExporter as GrpcSpanExporter,
        )

        return GrpcSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - as above
        OTLPSpanExporter as HttpSpanExporter,
    )

    return HttpSpanExporter()


class SpanExport:
    """Makes and sends the spans of the requests it is given.

    Args:
        exporter: Sends them.
        resource: Who makes them.
        settings: Sizes and times.
        counted: Hears what became of how many spans; called in any thread.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        resource: Resource,
        settings: TracingSettings,
        counted: Callable[[SpanOutcome, int], None],
    ) -> None:
        self._exporter = exporter
        self._factory = SpanFactory(resource)
        self._said = _LastWords()
        library = logging.getLogger(_LIBRARY)
        library.handlers[:] = [self._said]
        library.propagate = False
        self._queue = SpanQueue(
            self._export,
            counted,
            max_spans=settings.max_queue_spans,
            max_batch_spans=settings.max_batch_spans,
            delay_seconds=settings.delay_seconds,
        )
        self.put = self._queue.put

    def start(self) -> None:
        """Begin to send."""
        self._queue.start()

    def close(self) -> None:
        """Send what waits, for a bounded time. Blocks."""
        self._queue.close(CLOSE_SECONDS)
        self._exporter.shutdown()

    def _export(self, batch: Sequence[TracedRequest]) -> str:
        spans = [span for traced in batch for span in self._factory.spans(traced)]
        taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        said = self._said.take()
        return "" if taken else said or "the exporter did not say why"
