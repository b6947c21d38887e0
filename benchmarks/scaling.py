"""How a step of the engine grows with its batch and its contexts, and what scheduling takes of it.

    python benchmarks/scaling.py --output benchmarks/results/growth

The engine alone, decoding greedily on two threads. By batch: contexts of 16 to 64 tokens.
By context: a batch of 4. Scheduling: 256 running sequences and 10,000 waiting ones, beside
the same without these. Writes FOLDER/scaling.json and scaling.png.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine
from matplotlib.figure import Figure
from models import ensure_model
from workloads import VOCABULARY

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
CONTEXTS = [128, 256, 512, 1024, 1536]
ROWS_BY_CONTEXT = 4
WAITING = 10_000
SECONDS = 1.0  # of steps for each point, and at least
STEPS = 5


class Decoder:
    """An engine that is given so many sequences at a time."""

    def __init__(self, model: str) -> None:
        self._engine = Engine(
            EngineConfig(
                str(ensure_model(model)),
                device="cpu",
                max_sequences=max(BATCHES),
                max_batch_tokens=4096,
                max_model_length=2048,
            )
        )
        self._num_added = 0
        self.schedule_seconds = 0.0  # since `fill`
        schedule = self._engine._scheduler.schedule

        def timed() -> Any:
            started = time.perf_counter()
            batch = schedule()
            self.schedule_seconds += time.perf_counter() - started
            return batch

        self._engine._scheduler.schedule = timed  # type: ignore[method-assign]

    def fill(self, rows: int, context: int, waiting: int = 0) -> None:
        """Begin anew with these, past their prompts."""
        for i in range(self._num_added):
            self._engine.cancel(str(i))
        self._num_added = 0
        source = random.Random(f"{rows}/{context}")
        for _ in range(rows + waiting):
            prompt = tuple(source.choices(VOCABULARY, k=context))
            sampling = SamplingParams(max_tokens=2048 - context, seed=0, temperature=0)
            self._engine.add(SequenceRequest(str(self._num_added), prompt, sampling))
            self._num_added += 1
        running = 0
        while running < rows:
            running = len([o for o in self._engine.step().outputs if o.token_ids])
        self._engine.step()
        self.schedule_seconds = 0.0

    def steps(self) -> list[float]:
        """Seconds of steps, one after the other."""
        times: list[float] = []
        while len(times) < STEPS or (sum(times) < SECONDS and len(times) < 40):
            started = time.perf_counter()
            self._engine.step()
            times.append(time.perf_counter() - started)
        return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["llama-tiny", "qwen2-0.5b"])
    parser.add_argument("--output", type=Path, help="a folder")
    options = parser.parse_args()
    torch.set_num_threads(2)
    results = {model: _measure(model) for model in options.models}
    if options.output:
        written = {"machine": describe_machine(), "models": results}
        (options.output / "scaling.json").write_text(json.dumps(written, indent=1) + "\n")
        _draw(results).savefig(options.output / "scaling.png", dpi=110)


def _measure(model: str) -> dict[str, Any]:
    decoder = Decoder(model)
    by_batch = {rows: _step_ms(decoder, rows, 16) for rows in BATCHES}
    print(model, "step ms by batch", json.dumps(by_batch), flush=True)
    by_context = {context: _step_ms(decoder, ROWS_BY_CONTEXT, context) for context in CONTEXTS}
    print(model, "step ms by context", json.dumps(by_context), flush=True)
    shares = {waiting: _share(decoder, waiting) for waiting in (0, WAITING)}
    print(model, "scheduling of 256 rows, by waiting", json.dumps(shares), flush=True)
    return {"step_ms_by_batch": by_batch, "step_ms_by_context": by_context, "scheduling": shares}


def _step_ms(decoder: Decoder, rows: int, context: int) -> float:
    decoder.fill(rows, context)
    return round(1e3 * statistics.median(decoder.steps()), 3)


def _share(decoder: Decoder, waiting: int) -> dict[str, float]:
    decoder.fill(max(BATCHES), 16, waiting)
    times = decoder.steps()
    scheduling = decoder.schedule_seconds / len(times)
    return {
        "step_ms": round(1e3 * statistics.mean(times), 3),
        "schedule_ms": round(1e3 * scheduling, 3),
        "share_percent": round(100 * scheduling / statistics.mean(times), 2),
    }


def _draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for place, key, label in ((1, "batch", "sequences"), (2, "context", "tokens of context")):
        axes = figure.add_subplot(1, 2, place)
        for model, result in results.items():
            points = result[f"step_ms_by_{key}"]
            axes.plot(list(points), list(points.values()), marker="o", markersize=3, label=model)
            ticks = list(points)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="milliseconds a step")
        axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        axes.minorticks_off()
        axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
