"""The engine's process: it ends, hangs and is hindered, and another takes its place."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from miao_worker import engine_process
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.types import SamplingParams, SequenceRequest
from miao_worker.engine_process import EngineDiedError, EngineProcess


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[EngineProcess]:
    config = EngineConfig(model=str(tiny_model), device="cpu", cache_bytes=1 << 20, num_threads=1)
    engine = EngineProcess(config, "tiny", step_timeout_seconds=1.0)
    engine.start()
    yield engine
    engine.kill()


def first_step_of(engine: EngineProcess) -> int:
    """Steps until a sequence has brought its first token."""
    request = SequenceRequest("s", (1, 2, 3), SamplingParams(max_tokens=2, seed=1))
    engine.add(request)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for step in engine.receive(0.05, is_busy=True):
            for output in step.outputs:
                return output.token_ids[0]
    raise AssertionError("no step has come")


def test_a_killed_and_a_hanging_engine_are_noticed_and_replaced(engine: EngineProcess) -> None:
    token = first_step_of(engine)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        assert engine.pid is not None
        os.kill(engine.pid, number)
        deadline = time.monotonic() + 20
        with pytest.raises(EngineDiedError):  # noqa: PT012  it comes with one of the calls
            while time.monotonic() < deadline:
                engine.receive(0.05, is_busy=True)
        engine.restart()
        assert first_step_of(engine) == token


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_hindered_while_it_reloads_is_replaced(
    engine: EngineProcess, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "_RELOAD_SECONDS", 1.0)
    before = engine.pid
    restarting = threading.Thread(target=engine.restart)
    restarting.start()
    while engine.pid in (before, None):
        time.sleep(0.001)
    hindered = engine.pid
    assert hindered is not None
    os.kill(hindered, number)
    restarting.join(60)
    assert not restarting.is_alive()
    assert engine.pid not in (before, hindered)
    first_step_of(engine)


def test_an_engine_that_cannot_load_again_says_so(
    engine: EngineProcess, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "_RELOAD_PAUSES", (0.0,))
    weights = tiny_model / "model.safetensors"
    moved = weights.rename(tiny_model / "gone")
    try:
        with pytest.raises(ModelLoadError):
            engine.restart()
    finally:
        moved.rename(weights)
