"""The whole stack on the tiny model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from miao_client import Client
from miao_queue import keys
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


def kill_worker_of(stack: Stack, generation_id: str) -> None:
    """Kill the worker that has a generation now; its name holds its process's id."""
    with Redis.from_url(stack.redis_url) as redis:
        name = redis.hget(keys.generation(generation_id), "worker").decode()
    os.kill(int(name.split("-")[-2]), signal.SIGKILL)
