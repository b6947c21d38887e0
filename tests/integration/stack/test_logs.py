"""What was asked and what was said stand in no log, whatever happens."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from miao_client import Client, InvalidRequestError
from miao_worker.stack import Stack, StackSettings
from tests.forked_worker import ForkingStack

from .conftest import WORKER_OPTIONS

SECRET = "Vier-Augen-Prinzip 7141"


@pytest.fixture
def talkative(tiny_model: Path) -> Iterator[Stack]:
    """A stack of its own, whose worker logs all that it can."""
    options = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    settings = StackSettings("127.0.0.1:0", [*options, "--log-level", "debug"])
    stack = ForkingStack(settings, lambda *_: None)
    stack.start()
    yield stack
    stack.stop()


def kill_engine(stack: Stack) -> None:
    (worker,) = (part for part in stack._parts if part.name == "worker")
    children = psutil.Process(worker.process.pid).children(recursive=True)
    next(child for child in children if child.name() == "miao-engine").send_signal(signal.SIGKILL)


def test_prompts_and_outputs_are_not_logged(
    talkative: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Client(talkative.address) as client:
        prompt = client.tokenize(SECRET).token_ids
        stream = client.generate(SECRET, max_tokens=300, ignore_eos=True)
        chunks = iter(stream)
        next(chunks)
        kill_engine(talkative)
        assert sum(len(chunk.token_ids) for chunk in chunks) > 200
        said = stream.result()
        chat = client.generate([{"role": "user", "content": SECRET}], max_tokens=5).result()
        cancelled = client.generate(SECRET, max_tokens=400, ignore_eos=True)
        next(iter(cancelled))
        for wrong in ({"stop": [SECRET] * 1000}, {"max_tokens": 100_000}):
            with pytest.raises(InvalidRequestError):
                client.generate(SECRET, **wrong).result()
    logs = {part.name: part.log.read_text("utf-8") for part in talkative._parts}
    assert "another engine runs" in logs["worker"]
    logs["client"] = caplog.text
    secrets = [SECRET, SECRET[:10], said.text[:12], chat.text, str([*prompt])[1:-1]]
    secrets.append(str([*said.token_ids[:6]])[1:-1])
    for name, log in logs.items():
        for secret in secrets:
            assert secret not in log, name
