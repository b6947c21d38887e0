"""Traces in OpenTelemetry's terms. Imported only where a client traces; needs miao[otel].

Names and attributes are those of the conventions for generative AI and for RPC, as far as they
have one. What callers say and what models answer stands in none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from miao_client.errors import MiaoError
from miao_client.results import Accepted, Ending
from miao_client.traces import Carried, TracerProvider

_PROPAGATOR = TraceContextTextMapPropagator()

# The calls that ask a model, by the names that the conventions and the workers' spans have.
_OPERATIONS = {
    "Generate": "text_completion",
    "CreateGeneration": "text_completion",
    "Score": "score",
    "Explain": "explain",
    "Embed": "embeddings",
    "Classify": "classify",
    "Rerank": "rerank",
}
_SAMPLING = (*("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"),)


class OtelTraces:
    """Tells calls to a provider of tracers, or to the program's own."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer = (provider or trace.get_tracer_provider()).get_tracer("miao_client")

    def begin(self, path: str, request: Message, target: str) -> OtelCallTrace:
        """A call's span, within what its caller is doing."""
        name, attributes = _opening(path, request)
        attributes |= {"rpc.system.name": "grpc", "rpc.method": path.lstrip("/")}
        span = self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=attributes | _server(target)
        )
        return OtelCallTrace(span)


class OtelCallTrace:
    """A span of OpenTelemetry's, and the `traceparent` that names it."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._is_over = False
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
        self.carried: Carried = tuple(carrier.items())

    def note(self, event: str, attributes: Mapping[str, str | int]) -> None:
        """An event of the span."""
        if self._span.is_recording():
            self._span.add_event(event, dict(attributes))

    def answered(self, response: Message) -> None:
        """What is known of an answer, its words left out."""
        found: dict[str, Any] = {}
        generation = getattr(response, "generation", response)
        for attribute, field in (
            ("gen_ai.response.id", "generation_id"),
            ("gen_ai.response.model", "model"),
        ):
            if isinstance(value := getattr(generation, field, None), str) and value:
                found[attribute] = value
        usage = getattr(response, "usage", None)
        for field in ("input_tokens", "prompt_tokens"):
            if isinstance(count := getattr(usage, field, None), int):
                found["gen_ai.usage.input_tokens"] = count
        self._span.set_attributes(found)

    def ended(self, accepted: Accepted | None, ending: Ending | None) -> None:
        """What is known of a generation, its words left out."""
        found: dict[str, Any] = {}
        if accepted is not None:
            found["gen_ai.response.id"] = accepted.generation_id
            found["gen_ai.response.model"] = accepted.model
        if ending is not None:
            reasons = [each.reason.value for each in ending.answers] or [ending.reason.value]
            found["gen_ai.response.finish_reasons"] = reasons
            found["gen_ai.usage.input_tokens"] = ending.usage.prompt_tokens
            found["gen_ai.usage.cache_read.input_tokens"] = ending.usage.cached_prompt_tokens
            found["gen_ai.usage.output_tokens"] = ending.usage.output_tokens
        self._span.set_attributes(found)

    def end(self, error: BaseException | None = None) -> None:
        """End the span; of an error it gets the kind, never the words."""
        if self._is_over:
            return
        self._is_over = True
        if error is not None:
            kind = error.code if isinstance(error, MiaoError) else type(error).__name__
            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR, kind))
        self._span.end()


def _opening(path: str, request: Message) -> tuple[str, dict[str, Any]]:
    method = path.rpartition("/")[2]
    operation = _OPERATIONS.get(method)
    if operation is None:
        return f"miao/{method}", {}
    spec: Any = getattr(request, "spec", request)
    attributes: dict[str, Any] = {}
    if operation == "text_completion":
        operation = "chat" if spec.WhichOneof("input") == "chat" else operation
        attributes |= _asked(spec)
    attributes |= {"gen_ai.operation.name": operation, "gen_ai.provider.name": "miao"}
    if model := getattr(spec, "model", ""):
        attributes["gen_ai.request.model"] = model
    return f"{operation} {model}".rstrip(), attributes


def _asked(spec: Any) -> dict[str, Any]:
    """How a generation is to be sampled, as far as the caller says."""
    names = [name for name in _SAMPLING if spec.sampling.HasField(name)]
    found = {f"gen_ai.request.{name}": getattr(spec.sampling, name) for name in names}
    if spec.HasField("max_tokens"):
        found["gen_ai.request.max_tokens"] = spec.max_tokens
    if spec.n > 1:
        found["gen_ai.request.choice.count"] = spec.n
    return found


def _server(target: str) -> dict[str, Any]:
    host, _, port = target.rpartition("/")[2].rpartition(":")
    if "," in target or not port.isdigit():
        return {"server.address": target}
    return {"server.address": host.strip("[]"), "server.port": int(port)}
