"""The whole stack on the tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from miao_client import Client
from miao_worker.stack import Stack, StackSettings

WORKER_OPTIONS = ["--num-threads", "1", "--cache-gib", "0.01", "--device", "cpu"]


@pytest.fixture(scope="package")
def stack(tiny_model: Path) -> Iterator[Stack]:
    options = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    stack = Stack(StackSettings("127.0.0.1:0", options), lambda *_: None)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.address) as client:
        yield client
