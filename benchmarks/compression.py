"""What rounding a model's weights costs and brings: drift on the bundled model, size and speed.

    PYTHONPATH=worker python benchmarks/compression.py

The drift is that of the bundled model on documents as its training draws them, from a seed
of their own: the perplexity of what it was trained to say, and how often its likeliest token
is bfloat16's. Step times are those of a larger model with random weights, steps in turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine
from models import ensure_model
from transformers import AutoTokenizer

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.batch import Batch
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.model_runner import load_runners
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams, SequenceRequest
from training.batches import IGNORED, Example, draw_documents, encode
from training.checker import held_out_questions

SCHEMES: tuple[Any, ...] = (None, "int8")
_MAX_TOKENS = 512


@dataclass(frozen=True)
class Drift:
    perplexity: float
    likeliest: list[int]  # at every place that counts


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    documents = _documents(arguments.documents)
    drifts = {scheme: _drift(scheme, documents) for scheme in SCHEMES}
    steps = _steps(arguments.model, arguments.batch, arguments.steps)
    rows = []
    for scheme in SCHEMES:
        same = zip(drifts[scheme].likeliest, drifts[None].likeliest, strict=True)
        rows.append(
            {
                "scheme": scheme or "bfloat16",
                "perplexity": drifts[scheme].perplexity,
                "agreement": statistics.fmean(a == b for a, b in same),
                "step_ms": {batch: steps[scheme, batch] * 1e3 for batch in arguments.batch},
            }
        )
        print(rows[-1])
    if arguments.output:
        result = {"machine": describe_machine(), "places": len(drifts[None].likeliest)}
        arguments.output.write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n")


def _documents(count: int) -> list[Example]:
    tokenizer = AutoTokenizer.from_pretrained(bundled_model_path())
    drawn = draw_documents(random.Random(2026), held_out_questions())
    examples = (encode(tokenizer, document) for document in drawn)
    return list(itertools.islice((e for e in examples if len(e.ids) <= _MAX_TOKENS), count))


def _drift(scheme: Any, documents: list[Example]) -> Drift:
    runner, _ = load_runners(
        EngineConfig(str(bundled_model_path()), device="cpu", quantize=scheme, cache_bytes=1 << 27)
    )
    losses, likeliest = [], []
    for example in documents:
        sequence = Sequence(
            "drift",
            SamplingParams(max_tokens=1, seed=0),
            example.ids[:1],
            num_prompt_tokens=1,
            block_table=list(range(_MAX_TOKENS // 16)),
            row=0,
        )
        # What is proposed has logits at every place.
        batch = Batch(decodes=[sequence], proposals=[tuple(example.ids[1:])])
        logits = runner.run(batch).float()[:-1]
        labels = torch.tensor(example.labels[1:])
        counted = labels != IGNORED
        losses += torch.nn.functional.cross_entropy(
            logits[counted], labels[counted], reduction="none"
        ).tolist()
        likeliest += logits[counted].argmax(-1).tolist()
    return Drift(math.exp(statistics.fmean(losses)), likeliest)


def _steps(model: str, batches: list[int], count: int) -> dict[tuple[Any, int], float]:
    """Seconds of a decode step by scheme and batch, medians."""
    folder = str(ensure_model(model))
    engines = {
        scheme: Engine(EngineConfig(folder, device="cpu", quantize=scheme, cache_bytes=1 << 29))
        for scheme in SCHEMES
    }
    medians = {}
    for batch in batches:
        times: dict[Any, list[float]] = {scheme: [] for scheme in SCHEMES}
        for engine in engines.values():
            for i in range(batch):
                prompt = tuple(random.Random(i).choices(range(300, 3800), k=64))
                sampling = SamplingParams(max_tokens=count + 1, seed=0, temperature=0)
                engine.add(SequenceRequest(f"{batch}/{i}", prompt, sampling))
            engine.step()
        for _ in range(count):
            for scheme, engine in engines.items():
                started = time.perf_counter()
                engine.step()
                times[scheme].append(time.perf_counter() - started)
        medians |= {(scheme, batch): statistics.median(times[scheme]) for scheme in SCHEMES}
    return medians


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--model", default="qwen2-0.5b", choices=["qwen2-0.5b", "llama-tiny"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
