"""A whole stack that tells what it does, for tests that look at what it tells."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from miao_client import Client
from miao_worker.stack import Stack, StackSettings

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


@pytest.fixture(scope="session")
def observed(tiny_model: Path) -> Iterator[Observed]:
    options = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    options += ["--metrics-listen", "0"]
    stack = Stack(StackSettings("127.0.0.1:0", options), lambda *_: None)
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("MIAO_METRICS_LISTEN", "0")
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
