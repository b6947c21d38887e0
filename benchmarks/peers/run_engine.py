"""Our own engine in this process, without the service: what the service adds is the rest."""

from __future__ import annotations

import sys
import time

import torch
from serve import serve

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest


def main(folder: str, precision: str) -> None:
    torch.set_num_threads(2)
    quantize = "int8" if precision == "int8" else None
    engine = Engine(EngineConfig(folder, device="cpu", quantize=quantize, max_model_length=2048))
    count = 0

    def run(prompts: list[list[int]], new_tokens: int) -> float:
        nonlocal count
        sampling = SamplingParams(max_tokens=new_tokens, seed=0, temperature=0)
        started = time.perf_counter()
        for prompt in prompts:
            count += 1
            engine.add(SequenceRequest(str(count), tuple(prompt), sampling))
        tokens = 0
        while engine.has_unfinished:
            tokens += sum(len(output.token_ids) for output in engine.step().outputs)
        seconds = time.perf_counter() - started
        assert tokens == new_tokens * len(prompts)
        return seconds

    serve(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
