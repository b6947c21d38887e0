"""Traces in OpenTelemetry's terms. Imported only where traces are on; needs miao[otel]."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from miao_queue.telemetry.traces import Attributes, Span

_NS_OF_MS = 1_000_000
_EXPORT_SECONDS = 5
_PROPAGATOR = TraceContextTextMapPropagator()
_CARRIED = ("traceparent", "tracestate")


class OtlpSpan:
    """A span of OpenTelemetry's. Attributes are set, events and exceptions never recorded."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    def note(self, attributes: Attributes) -> None:
        self.span.set_attributes(dict(attributes))

    def fail(self, reason: str) -> None:
        self.span.set_status(Status(StatusCode.ERROR, reason))

    def end(self, end_ms: int | None = None) -> None:
        self.span.end(None if end_ms is None else end_ms * _NS_OF_MS)


class OtlpTraces:
    """Tells phases to a span processor."""

    def __init__(self, processor: SpanProcessor, program: str) -> None:
        names = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": program}
        self._provider = TracerProvider(resource=Resource.create({**names}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("miao")

    @classmethod
    def to(cls, endpoint: str, program: str) -> OtlpTraces:
        """Send to a collector over OTLP's gRPC, in the background."""
        exporter = OTLPSpanExporter(
            endpoint=endpoint,
            insecure=endpoint.startswith("http://"),
            timeout=_EXPORT_SECONDS,
        )
        return cls(BatchSpanProcessor(exporter), program)

    @contextmanager
    def serve(self, method: str, context: Any) -> Iterator[Span]:
        carried = dict(context.invocation_metadata() or ())
        name = f"miao/{method}"
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        with self._current(name, attributes, SpanKind.SERVER, _context_of(carried)) as span:
            yield span

    @contextmanager
    def phase(self, name: str, attributes: Attributes) -> Iterator[Span]:
        with self._current(name, attributes, SpanKind.INTERNAL, None) as span:
            yield span

    def here(self) -> str:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")

    def begin(self, name: str, parent: str | Span, begin_ms: int, attributes: Attributes) -> Span:
        if isinstance(parent, OtlpSpan):
            context = trace.set_span_in_context(parent.span, Context())
        else:
            context = _context_of({"traceparent": str(parent)})
        return OtlpSpan(
            self._tracer.start_span(
                name,
                context,
                SpanKind.INTERNAL,
                dict(attributes),
                start_time=begin_ms * _NS_OF_MS,
            )
        )

    def close(self) -> None:
        self._provider.shutdown()

    @contextmanager
    def _current(
        self, name: str, attributes: Attributes, kind: SpanKind, context: Context | None
    ) -> Iterator[Span]:
        # What goes wrong is told by its code; an exception's words are nobody's business.
        with self._tracer.start_as_current_span(
            name,
            context,
            kind,
            dict(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield OtlpSpan(span)


def _context_of(carried: dict[str, Any]) -> Context:
    """The caller's trace, as its metadata says; none of it is trusted beyond its form."""
    texts = {key: carried[key] for key in _CARRIED if isinstance(carried.get(key), str)}
    return _PROPAGATOR.extract(texts, Context())
