"""An OTLP collector on loopback, over HTTP and gRPC, that keeps the spans it is sent."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from integration.standalone import eventually


@dataclass(frozen=True, slots=True)
class Span:
    """One span as the collector got it; ids in hexadecimal, times in seconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    started: float
    ended: float
    failed: bool
    attributes: Mapping[str, Any]
    events: Mapping[str, float]
    resource: Mapping[str, Any]


@dataclass(slots=True)
class TraceCollector:
    """Keeps spans.

    Attributes:
        http_port: Where it takes them over HTTP.
        grpc_port: Where it takes them over gRPC.
        spans: Oldest first.
        headers: Those of the last export over HTTP.
        status: Of each answer over HTTP.
    """

    http_port: int = 0
    grpc_port: int = 0
    spans: list[Span] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200

    async def _http(self, request: web.Request) -> web.Response:
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        if self.status != 200:
            return web.Response(status=self.status)
        self._take(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def _grpc(self, request: ExportTraceServiceRequest, _context: object) -> ExportTraceServiceResponse:
        self._take(request)
        return ExportTraceServiceResponse()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans.extend(_span(span, resource) for span in of_scope.spans)

    async def trace(self, trace_id: str, spans: int) -> dict[str, list[Span]]:
        """The spans of a trace by kind, once there are so many, in the order of their beginnings."""

        async def complete() -> list[Span]:
            found = [span for span in self.spans if span.trace_id == trace_id]
            return found if len(found) >= spans else []

        found = await eventually(complete, seconds=20.0, what=f"trace {trace_id} has no {spans} spans: {self.spans}")
        assert len(found) == spans, found
        by_kind: dict[str, list[Span]] = {}
        for span in sorted(found, key=lambda span: span.started):
            by_kind.setdefault(span.kind, []).append(span)
        return by_kind


def _attributes(pairs: Any) -> dict[str, Any]:
    def value(of: AnyValue) -> Any:
        kind = of.WhichOneof("value")
        return [value(item) for item in of.array_value.values] if kind == "array_value" else getattr(of, str(kind))

    found: dict[str, Any] = {}
    for pair in pairs:
        assert isinstance(pair, KeyValue)
        found[pair.key] = value(pair.value)
    return found


def _span(span: ProtoSpan, resource: Mapping[str, Any]) -> Span:
    return Span(
        name=span.name,
        kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        started=span.start_time_unix_nano / 1e9,
        ended=span.end_time_unix_nano / 1e9,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
        events={event.name: event.time_unix_nano / 1e9 for event in span.events},
        resource=resource,
    )


@asynccontextmanager
async def trace_collector() -> AsyncIterator[TraceCollector]:
    collector = TraceCollector()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", collector._http)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.http_port = runner.addresses[0][1]
    server = grpc.aio.server()
    export = grpc.unary_unary_rpc_method_handler(
        collector._grpc,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": export}),))
    collector.grpc_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)
        await runner.cleanup()
