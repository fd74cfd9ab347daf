"""Spans reach the exporter that the environment names, and the library's complaints become one reason."""

import logging
from collections import Counter
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from endpoint_picker.config.tracing import OtlpProtocol, SpanExporterKind, TracingSettings
from endpoint_picker.telemetry.span_export import SpanExport, make_exporter
from endpoint_picker.telemetry.span_queue import SpanOutcome
from endpoint_picker.telemetry.tracing import TracedRequest

ONE = TracedRequest("0" * 31 + "1", 16, method="GET", path="/v1/models")


class Refusing(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        logging.getLogger("opentelemetry.exporter.some").warning("collector says %d", 401)
        return SpanExportResult.FAILURE


def export_one(exporter: SpanExporter) -> Counter[SpanOutcome]:
    counts: Counter[SpanOutcome] = Counter()

    def count(outcome: SpanOutcome, spans: int) -> None:
        counts[outcome] += spans

    export = SpanExport(exporter, Resource({}), TracingSettings(), count)
    export.start()
    export.put(ONE)
    export.close()
    return counts


def test_spans_reach_the_exporter() -> None:
    exporter = InMemorySpanExporter()
    assert export_one(exporter) == {SpanOutcome.EXPORTED: 1}
    assert [span.name for span in exporter.get_finished_spans()] == ["GET"]


def test_the_reason_of_a_loss_is_what_the_library_said(caplog: pytest.LogCaptureFixture) -> None:
    assert export_one(Refusing()) == {SpanOutcome.FAILED: 1}
    [record] = caplog.records
    assert record.reason == "collector says 401"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "module"),
    [
        (TracingSettings(), "opentelemetry.exporter.otlp.proto.http.trace_exporter"),
        (TracingSettings(protocol=OtlpProtocol.GRPC), "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"),
    ],
)
def test_the_protocol_chooses_the_exporter(settings: TracingSettings, module: str) -> None:
    exporter = make_exporter(settings)
    assert type(exporter).__module__ == module
    exporter.shutdown()


def test_the_console_is_an_exporter() -> None:
    assert isinstance(make_exporter(TracingSettings(SpanExporterKind.CONSOLE)), ConsoleSpanExporter)
