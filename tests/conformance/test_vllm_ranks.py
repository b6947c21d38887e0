"""vLLM with a model that several processes compute together."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from miao_worker.engine.protocol import ServingEngine
from miao_worker.engine_process import EngineDiedError, EngineProcess
from miao_worker.vllm_engine.config import VllmConfig

from .conftest import HAS_VLLM, NO_VLLM, Said, prompt_of, request_of, run, settings_of
from .test_engine import WAYS
from .test_process import receive

pytestmark = pytest.mark.skipif(not HAS_VLLM, reason=NO_VLLM)


def test_two_vllm_processes_say_what_one_engine_says_and_end_together(
    model_folder: Path, reference: ServingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{cpus[0]}|{cpus[-1]}")
    monkeypatch.setenv("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    settings = settings_of("vllm", model_folder)
    assert isinstance(settings, VllmConfig)
    process = EngineProcess(
        replace(settings, tensor_parallel_size=2), "tiny", step_timeout_seconds=60
    )
    card = process.start()
    try:
        assert "one process" in card.guide_fault  # so that fronts refuse formats
        asked = {way: request_of(way, prompt_of(3, 9), **WAYS[way]) for way in WAYS}
        expected = run(reference, asked.values())
        said = {way: Said() for way in asked}
        for request in asked.values():
            process.add(request)
        receive(process, said, 1000)
        for way, each in expected.items():
            assert (said[way].token_ids, said[way].reason) == (each.token_ids, each.reason), way
        assert process.pid is not None
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineDiedError):
            receive(process, {"none": Said()}, 1)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive
    finally:
        process.kill()
