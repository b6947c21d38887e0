"""The engine beside transformers, step by step in turns, so that a noisy machine hits both.

    python benchmarks/engine_step.py --model FOLDER --batch 1 8 32 --steps 10

For each batch size: the time of prefilling all prompts and of a decode step,
greedy, in the checkpoint's dtype. The ratio is transformers' time over the engine's.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest


class Reference:
    """transformers' forward on a static batch with its own cache."""

    def __init__(self, model: PreTrainedModel, prompts: list[tuple[int, ...]]) -> None:
        self._model = model
        self._cache = DynamicCache()
        self._next = torch.tensor(prompts)

    @torch.inference_mode()
    def step(self) -> None:
        """Prefill at first, then one token for each row."""
        output = self._model(
            self._next, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._next = output.logits[:, -1].float().argmax(-1, keepdim=True)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    engine: Engine, model: PreTrainedModel, batch: int, prompt_length: int, steps: int
) -> None:
    draw = random.Random(batch)
    vocab = range(engine.vocab_size)
    prompts = [tuple(draw.choices(vocab, k=prompt_length)) for _ in range(batch)]
    for i, prompt in enumerate(prompts):
        sampling = SamplingParams(max_tokens=steps + 2, seed=0, temperature=0)
        engine.add(SequenceRequest(f"{batch}-{i}", prompt, sampling))
    reference = Reference(model, prompts)
    theirs, ours = [seconds(reference.step)], [seconds(engine.step)]
    for _ in range(steps):
        theirs.append(seconds(reference.step))
        ours.append(seconds(engine.step))
    while engine.has_unfinished:
        engine.step()
    for name, before, after in (
        ("prefill", theirs[0], ours[0]),
        ("step", statistics.median(theirs[1:]), statistics.median(ours[1:])),
    ):
        print(
            f"batch {batch:3d} {name:8s} transformers {before * 1e3:9.1f} ms   "
            f"engine {after * 1e3:9.1f} ms   ratio {before / after:5.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder or a Hub name")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt-length", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    budget = max(options.batch) * options.prompt_length
    config = EngineConfig(
        options.model,
        device="cpu",
        max_sequences=max(options.batch),
        max_batch_tokens=budget,
        num_threads=options.threads,
    )
    engine = Engine(config)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype="auto").eval()
    for batch in options.batch:
        compare(engine, model, batch, options.prompt_length, options.steps)


if __name__ == "__main__":
    main()
