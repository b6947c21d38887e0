"""A generation's trace, from its caller through the queue into the engine and back."""

from __future__ import annotations

from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1.generation_service_pb2_grpc import GenerationServiceStub
from miao_client import Client

from .conftest import Collector, Observed

_CALLER = bytes.fromhex("00f067aa0ba902b7")


def generate(address: str, trace_id: bytes, *, is_sampled: bool = True, **spec: Any) -> list[Any]:
    """Call as a service would that has a trace of its own."""
    parent = f"00-{trace_id.hex()}-{_CALLER.hex()}-{int(is_sampled):02d}"
    with grpc.insecure_channel(address) as channel:
        stub: Any = GenerationServiceStub(channel)
        values: dict[str, Any] = {"prompt": "the quick brown fox", "max_tokens": 5}
        request = rpc.GenerateRequest(spec=pb.GenerationSpec(**(values | spec)))
        return list(stub.Generate(request, metadata=[("traceparent", parent)]))


def attributes(span: Span) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def test_each_phase_is_one_span_under_its_callers(observed: Observed, collector: Collector) -> None:
    trace_id = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
    said = generate(
        observed.address, trace_id, ignore_eos=True, sampling=pb.Sampling(temperature=0.5)
    )
    generation = said[0].event.accepted.generation_id
    names = ("miao/Generate", "submit", "queue", "text_completion tiny")
    phases = ("prefill", "decode", "finish")
    found = collector.wait_for(trace_id, *names, *phases)
    assert set(found) == {*names, *phases}  # and none for a token
    serving, attempt = found["miao/Generate"][1], found["text_completion tiny"][1]
    assert serving.parent_span_id == _CALLER
    assert serving.kind == Span.SPAN_KIND_SERVER
    for name in ("submit", "queue", "text_completion tiny"):
        assert found[name][1].parent_span_id == serving.span_id, name
    for name in phases:
        assert found[name][1].parent_span_id == attempt.span_id, name
    sides = {name: program for name, (program, _) in found.items()}
    assert sides == dict.fromkeys(("miao/Generate", "submit"), "miao-front") | dict.fromkeys(
        ("queue", "text_completion tiny", *phases), "miao-worker"
    )
    about = attributes(attempt)
    assert about.pop("gen_ai.response.finish_reasons").values[0].string_value == "length"
    assert about.pop("miao.worker")
    assert about.pop("gen_ai.usage.input_tokens") > 0
    assert about == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "miao",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 0,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.choice.count": 1,
        "gen_ai.response.id": generation,
        "gen_ai.usage.output_tokens": 5,
        "miao.generation": generation,
        "miao.tenant": "default",
        "miao.attempt": 1,
    }
    queue, prefill, decode, finish = (found[name][1] for name in ("queue", *phases))
    assert queue.end_time_unix_nano == attempt.start_time_unix_nano
    assert prefill.start_time_unix_nano == attempt.start_time_unix_nano
    assert prefill.end_time_unix_nano == decode.start_time_unix_nano
    assert decode.end_time_unix_nano == finish.start_time_unix_nano
    assert finish.end_time_unix_nano == attempt.end_time_unix_nano


def test_what_its_caller_does_not_sample_is_not_traced(
    observed: Observed, collector: Collector
) -> None:
    unsampled, later = bytes([7] * 16), bytes([8] * 16)
    generate(observed.address, unsampled, is_sampled=False)
    generate(observed.address, later)
    collector.wait_for(later, "finish", "miao/Generate")
    assert collector.spans(unsampled) == {}


def test_a_metadata_that_is_no_trace_begins_one(observed: Observed, collector: Collector) -> None:
    before = collector.all_said().count('name: "submit"')
    with grpc.insecure_channel(observed.address) as channel:
        stub: Any = GenerationServiceStub(channel)
        request = rpc.GenerateRequest(spec=pb.GenerationSpec(prompt="x", max_tokens=1))
        assert list(stub.Generate(request, metadata=[("traceparent", "00-zz-!")]))
        assert list(stub.Generate(request, metadata=[("traceparent-bin", b"\xff\x00")]))
    trace_id = bytes([9] * 16)
    generate(observed.address, trace_id)
    collector.wait_for(trace_id, "finish", "miao/Generate")
    assert collector.all_said().count('name: "submit"') == before + 3


def test_a_callers_own_work_the_sdk_the_front_and_the_worker_stand_in_one_trace(
    observed: Observed, collector: Collector
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    outer = provider.get_tracer("tests").start_span("checkout")
    with (
        Client(observed.address, traces=provider) as client,
        trace.use_span(outer, end_on_exit=True),
    ):
        said = client.generate("the quick brown fox", max_tokens=4, ignore_eos=True).result()
    provider.shutdown()
    told = {span.name: span for span in exporter.get_finished_spans()}
    assert set(told) == {"checkout", "text_completion"}
    caller, sdk = told["checkout"].context, told["text_completion"]
    assert caller is not None
    assert sdk.context is not None
    assert sdk.parent is not None
    assert sdk.parent.span_id == caller.span_id
    trace_id = caller.trace_id.to_bytes(16)
    phases = ("submit", "queue", "text_completion tiny", "prefill", "decode", "finish")
    found = collector.wait_for(trace_id, "miao/Generate", *phases)
    assert found["miao/Generate"][1].parent_span_id == sdk.context.span_id.to_bytes(8)
    attempt = attributes(found["text_completion tiny"][1])
    assert sdk.attributes is not None
    assert (
        attempt["gen_ai.response.id"] == said.generation_id == sdk.attributes["gen_ai.response.id"]
    )
    assert sdk.attributes["gen_ai.response.model"] == "tiny"
