"""A whole stack that tells what it does, for tests that look at what it tells."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from miao_client import Client
from miao_worker.stack import Stack, StackSettings
from tests.forked_worker import ForkingStack

WORKER_OPTIONS = ["--num-threads", "1", "--cache-gib", "0.01", "--device", "cpu"]
_ADDRESS = re.compile(r"metrics are served at .*?(http://\S+?/metrics)")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Observed:
    """The stack, and what it has told so far."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @property
    def address(self) -> str:
        return self.stack.address

    def log(self, part: str) -> str:
        return next(each.log for each in self.stack._parts if each.name == part).read_text("utf-8")

    def events(self, part: str, event: str, **fields: object) -> list[dict[str, object]]:
        """The lines of the log for an event, with these fields."""
        lines = (line for line in self.log(part).splitlines() if line.startswith("{"))
        found = (json.loads(line) for line in lines)
        return [line for line in found if line["event"] == event and fields.items() <= line.items()]

    def wait_for(self, part: str, event: str, **fields: object) -> list[dict[str, object]]:
        """As `events`, once there is one."""
        deadline = time.monotonic() + 10
        while not (found := self.events(part, event, **fields)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def metrics_address(self, part: str) -> str:
        found = _ADDRESS.search(self.log(part))
        assert found is not None, self.log(part)
        return found.group(1)

    def samples(self, part: str) -> Samples:
        with urlopen(self.metrics_address(part)) as answer:
            text = answer.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, part: str, name: str, **labels: str) -> float:
        return self.samples(part).get((name, frozenset(labels.items())), 0.0)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector in the tests' own process."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, Span]] = []
        self.address = ""

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self._spans += [(names["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, trace_id: bytes) -> dict[str, tuple[str, Span]]:
        """The spans of a trace that have come, by name, with the program of each."""
        return {span.name: (who, span) for who, span in self._spans if span.trace_id == trace_id}

    def all_said(self) -> str:
        return "".join(str(span) for _, span in self._spans)

    def wait_for(self, trace_id: bytes, *names: str) -> dict[str, tuple[str, Span]]:
        """As `spans`, once all of these are there."""
        deadline = time.monotonic() + 20
        while not set(names) <= (found := self.spans(trace_id)).keys():
            assert time.monotonic() < deadline, sorted(found)
            time.sleep(0.02)
        return found


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    made = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    made.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(None)


@pytest.fixture(scope="session")
def observed(tiny_model: Path, collector: Collector) -> Iterator[Observed]:
    options = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    options += ["--metrics-listen", "0"]
    stack = ForkingStack(StackSettings("127.0.0.1:0", options), lambda *_: None)
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("MIAO_METRICS_LISTEN", "0")
        environ.setenv("MIAO_TRACES_ENDPOINT", collector.address)
        environ.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        environ.setenv("MIAO_LOG_FORMAT", "json")
        environ.setenv("MIAO_LOG_LEVEL", "debug")
        stack.start()
    yield Observed(stack)
    stack.stop()


@pytest.fixture
def client(observed: Observed) -> Iterator[Client]:
    with Client(observed.address) as client:
        yield client


@pytest.fixture
def grown(observed: Observed) -> Callable[..., Callable[..., float]]:
    """How much a metric has grown since it was asked for, once it has grown so much.

    Each side counts an end just after it has told it.
    """

    def begin(part: str, name: str, **labels: str) -> Callable[..., float]:
        before = observed.value(part, name, **labels)

        def measure(expected: float = 1) -> float:
            deadline = time.monotonic() + 10
            while (growth := observed.value(part, name, **labels) - before) < expected:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            return growth

        return measure

    return begin
