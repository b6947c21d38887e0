"""What is told of an attempt that does not end here, and that nothing is where traces are off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue.telemetry import traces
from miao_queue.telemetry.otlp import OtlpTraces
from miao_queue.telemetry.traces import NO_SPAN, NoTraces, TracesError
from miao_worker.attempt_trace import AttemptTrace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def told() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    before = traces.install(OtlpTraces(SimpleSpanProcessor(exporter), "tests"))
    yield exporter
    traces.install(before).close()


def claim(attempt: int = 1, parent: str = PARENT) -> Any:
    record = SimpleNamespace(
        generation_id="g", tenant="t", model="m", queue="m:normal", worker="w", accept_ms=1000
    )
    record.attempt = attempt
    return SimpleNamespace(record=record, now_ms=1200, job=Job(max_tokens=3, traceparent=parent))


def names(told: InMemorySpanExporter) -> list[str]:
    return [span.name for span in told.get_finished_spans()]


def test_a_takeover_has_no_wait_in_the_queue_of_its_own(told: InMemorySpanExporter) -> None:
    trace = AttemptTrace(claim(attempt=2))
    trace.note_first(1300, 0)
    trace.note_last(1400)
    trace.note_end(1410, pb.Finished(reason=pb.FINISH_REASON_STOP))
    assert names(told) == ["prefill", "decode", "finish", "text_completion m"]
    attempt = told.get_finished_spans()[-1]
    assert attempt.attributes is not None
    assert attempt.attributes["miao.attempt"] == 2
    assert (attempt.start_time, attempt.end_time) == (1200 * 10**6, 1410 * 10**6)


def test_an_attempt_that_is_lost_ends_as_failed(told: InMemorySpanExporter) -> None:
    trace = AttemptTrace(claim())
    trace.note_lost(1300, "taken over")
    assert names(told) == ["queue", "prefill", "text_completion m"]
    assert told.get_finished_spans()[-1].status.description == "taken over"


def test_an_error_is_told_by_its_code_alone(told: InMemorySpanExporter) -> None:
    trace = AttemptTrace(claim())
    error = pb.GenerationError(code=13, message="words")
    trace.note_last(1300)
    trace.note_end(1310, pb.Finished(reason=pb.FINISH_REASON_ERROR, error=error))
    assert told.get_finished_spans()[-1].status.description == "code 13"
    assert "words" not in "".join(span.to_json() for span in told.get_finished_spans())


def test_a_job_without_a_trace_is_not_traced(told: InMemorySpanExporter) -> None:
    trace = AttemptTrace(claim(parent=""))
    trace.note_first(1300, 0)
    trace.note_lost(1300, "taken over")
    assert names(told) == []


def test_an_exception_within_a_call_leaves_no_words(told: InMemorySpanExporter) -> None:
    context = SimpleNamespace(invocation_metadata=lambda: [("traceparent", PARENT)])

    def fail() -> None:
        with traces.active().serve("Generate", context), traces.active().phase("submit", {}):
            assert traces.active().here().startswith(PARENT[:36])
            raise ValueError("words")

    with pytest.raises(ValueError, match="words"):
        fail()
    submit, serving = told.get_finished_spans()
    assert submit.parent is not None
    assert submit.parent.span_id == serving.context.span_id  # type: ignore[union-attr]
    assert "words" not in submit.to_json() + serving.to_json()


def test_nothing_is_told_and_nothing_imported_where_traces_are_off() -> None:
    off = NoTraces()
    with off.serve("Generate", None) as span:
        span.note({"a": 1})
        assert off.here() == ""
    assert off.begin("queue", PARENT, 0, {}) is NO_SPAN
    # Redis's client imports parts of it where they are installed; what sends is ours.
    program = (
        "import sys, miao_service.front, miao_service.cli, miao_worker.cli\n"
        "assert not any(name.startswith('opentelemetry.exporter') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_address_that_is_none_is_said_at_the_start() -> None:
    with pytest.raises(TracesError, match="--traces-endpoint must be http://HOST:PORT"):
        traces.connect("127.0.0.1:4317", "tests")
