"""How long the engine's steps take, for `miao plan fit`: the engine alone, without a service.

    python benchmarks/step_times.py --model qwen2-0.5b --output steps.json
    miao plan fit steps.json --output worker.json

Batches of several sizes and contexts decode; into each, prompts of several lengths come. Any
model and device that the engine runs, so that one session on a GPU gives what a plan needs.
Each step is written with what it computed: rows, tokens they read, prompts, their tokens and
pairs of tokens that attend to each other.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine
from models import ensure_model
from workloads import VOCABULARY

from miao_worker.engine.batch import Batch
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest

BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (32, 512)
PROMPTS = (16, 64, 256, 1024)
STEPS = 8  # of each kind


class Stepper:
    """An engine whose steps are written down."""

    def __init__(self, engine: Engine) -> None:
        self.samples: list[dict[str, Any]] = []
        self._engine = engine
        self._added: list[str] = []
        self._work: dict[str, Any] = {}
        schedule = engine._scheduler.schedule

        def noted() -> Batch:
            batch = schedule()
            self._work = _work(batch)
            return batch

        engine._scheduler.schedule = noted  # type: ignore[method-assign]

    def add(self, tokens: int, most: int) -> None:
        """Let a prompt come."""
        name = str(len(self._added))
        source = random.Random(name)
        sampling = SamplingParams(max_tokens=most, seed=0, temperature=0)
        prompt = tuple(source.choices(VOCABULARY, k=tokens))
        self._engine.add(SequenceRequest(name, prompt, sampling))
        self._added.append(name)

    def step(self, *, keep: bool) -> None:
        """Compute one; where steps overlap its time is from the one before to it."""
        started = time.perf_counter()
        self._engine.step()
        if keep:
            self.samples.append({**self._work, "seconds": time.perf_counter() - started})

    def clear(self) -> None:
        """Begin anew."""
        for name in self._added:
            self._engine.cancel(name)
        while self._engine.has_unfinished:
            self._engine.step()


def _work(batch: Batch) -> dict[str, Any]:
    return {
        "rows": len(batch.decodes),
        "context": sum(sequence.num_tokens for sequence in batch.decodes),
        "chunks": len(batch.prefills),
        "prompt_tokens": sum(prefill.num_tokens for prefill in batch.prefills),
        "pairs": sum(
            prefill.num_tokens * (prefill.start + (prefill.num_tokens + 1) / 2)
            for prefill in batch.prefills
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen2-0.5b", help="of models.py, or a folder")
    parser.add_argument("--device")
    parser.add_argument("--quantize")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=90.0, help="then it ends early")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = Path(options.model)
    engine = Engine(
        EngineConfig(
            str(folder if folder.is_dir() else ensure_model(options.model)),
            device=options.device,
            quantize=options.quantize,
            max_sequences=max(BATCHES) + 1,
            max_model_length=2048,
            prefix_cache=False,
        )
    )
    stepper = Stepper(engine)
    deadline = time.monotonic() + options.seconds
    for context in CONTEXTS:
        for rows in BATCHES:
            if time.monotonic() < deadline:
                _measure(stepper, rows, context)
                print(f"{rows} rows of {context}: {len(stepper.samples)} steps", flush=True)
    result = {
        "name": folder.name,
        "machine": describe_machine() | {"device": engine.device, "dtype": engine.dtype},
        "samples": stepper.samples,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def _measure(stepper: Stepper, rows: int, context: int) -> None:
    stepper.clear()
    for _ in range(rows):
        stepper.add(context, 1024)
    while stepper._engine._scheduler.num_running < rows:
        stepper.step(keep=False)
    for _ in range(3):
        stepper.step(keep=False)
    for _ in range(STEPS):
        stepper.step(keep=True)
    for tokens in PROMPTS:
        for _ in range(2):
            stepper.add(tokens, 2)
            stepper.step(keep=True)
            stepper.step(keep=True)


if __name__ == "__main__":
    main()
