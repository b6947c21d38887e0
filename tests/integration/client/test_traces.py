"""The spans that a traced client tells: one for each call, whatever it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from miao_client import AsyncClient, BusyError, Client, InvalidRequestError
from miao_client.testing import broken, busy

SECRET = "a canary"


class Told:
    """A provider of tracers, and what it was told."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    assert SECRET not in "".join(span.to_json() for span in told.spans)
    told.provider.shutdown()


def script_a_stream_that_is_cut(service: Any) -> None:
    begin = [service.accepted(), service.tokens(1, SECRET), service.tokens(2, "b"), service.cut]
    service.script("Generate", begin)
    service.script("FollowGeneration", [service.tokens(3, "c"), service.finished(3)])


def check_the_stream(span: ReadableSpan, service: Any) -> None:
    assert span.name == "chat m"
    assert span.kind is SpanKind.CLIENT
    assert span.attributes is not None
    host, _, port = service.targets[0].rpartition(":")
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "miao",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.response.id": service.generation_id,
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 3,
        "rpc.system.name": "grpc",
        "rpc.method": "miao.v1.GenerationService/Generate",
        "server.address": host,
        "server.port": int(port),
    }
    assert [event.name for event in span.events] == ["first_token", "resume"]
    assert dict(span.events[1].attributes or {}) == {
        "error.type": "UNAVAILABLE",
        "miao.sequence_number": 2,
    }
    assert span.context is not None
    parent = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    carried = [str(call.metadata["traceparent"]) for call in service.calls]
    assert [each[:-2] for each in carried] == [parent] * 2  # the rest are flags


CHAT: dict[str, Any] = {"temperature": 0.5, "max_tokens": 9}


def test_a_stream_is_one_span_over_all_its_connections(
    service: Any, target: str, told: Told
) -> None:
    script_a_stream_that_is_cut(service)
    with Client(target, model="m", traces=told.provider) as client:
        assert client.generate([{"role": "user", "content": SECRET}], **CHAT).text == SECRET + "bc"
    (span,) = told.spans
    check_the_stream(span, service)


async def test_so_is_one_of_the_asynchronous_client(service: Any, target: str, told: Told) -> None:
    script_a_stream_that_is_cut(service)
    service.script("ListModels", broken(), {})
    async with AsyncClient(target, model="m", traces=told.provider) as client:
        await client.generate([{"role": "user", "content": SECRET}], **CHAT).text()
        (span,) = told.spans
        check_the_stream(span, service)
        await client.models()
    assert [event.name for event in told.spans[1].events] == ["retry"]


def test_spans_belong_to_what_the_caller_is_doing(service: Any, target: str, told: Told) -> None:
    service.script("ListModels", {})
    service.script("Embed", {"model": "e", "usage": {"input_tokens": 5}, "dimensions": 1})
    outer = told.provider.get_tracer("tests").start_span("outer")
    with (
        Client(target, traces=told.provider) as client,
        trace.use_span(outer, end_on_exit=True),
    ):
        client.models()
        client.embed([SECRET])
    listing, embedding, caller = told.spans
    assert (listing.name, embedding.name) == ("miao/ListModels", "embeddings")
    assert caller.context is not None
    for span in (listing, embedding):
        assert span.parent is not None
        assert span.parent.span_id == caller.context.span_id
    assert embedding.attributes is not None
    assert embedding.attributes["gen_ai.response.model"] == "e"
    assert embedding.attributes["gen_ai.usage.input_tokens"] == 5


def test_an_error_is_told_by_its_code(service: Any, target: str, told: Told) -> None:
    service.script("ListModels", busy(SECRET))
    service.script("Generate", busy(SECRET))
    with Client(target, traces=told.provider) as client:
        with pytest.raises(BusyError):
            client.models()
        with pytest.raises(BusyError):
            client.generate(SECRET).result()
    for span in told.spans:
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "RESOURCE_EXHAUSTED"
        assert span.attributes is not None
        assert span.attributes["error.type"] == "RESOURCE_EXHAUSTED"
        assert span.events == ()
    assert told.names == ["miao/ListModels", "text_completion"]


def test_a_stream_that_is_left_ends_its_span(service: Any, target: str, told: Told) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})
    with (
        Client(target, traces=told.provider) as client,
        client.generate("hello", model="m") as stream,
    ):
        next(iter(stream))
    assert told.names == ["text_completion m", "miao/CancelGeneration"]


def test_a_generation_that_could_not_be_sent_ends_its_span(target: str, told: Told) -> None:
    with (
        Client(target, traces=told.provider, api_key="two words") as client,
        pytest.raises(InvalidRequestError),
    ):
        client.generate("hello")
    assert [span.status.description for span in told.spans] == ["INVALID_ARGUMENT"]


def test_the_environment_turns_them_on_for_the_programs_own_provider(
    service: Any, target: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAO_TRACES", "true")
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: told.provider)
    service.script("ListModels", {})
    with Client(target) as client:
        client.models()
    assert told.names == ["miao/ListModels"]


def test_a_client_that_does_not_trace_carries_no_trace(service: Any, target: str) -> None:
    service.script("ListModels", {})
    with Client(target) as client:
        client.models()
    assert "traceparent" not in service.calls[0].metadata


def test_traces_without_their_packages_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "miao_client.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(InvalidRequestError, match=r"miao\[otel\]"):
        Client(traces=True)
