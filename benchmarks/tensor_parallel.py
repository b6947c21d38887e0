"""What it costs to divide a model: a decode step by one process and by two, in turns.

    python benchmarks/tensor_parallel.py --model qwen2-0.5b --output results.json

Two ranks on as many cores as one process has compute no faster; what is seen is what dividing
adds. Both run on transformers' layers with packed products, without the compiled decoder, which
one process alone has. For each number of rows: the median step, how many exchanges it has, and
the time in them at the first rank, which includes waiting for the other; `telling` hands the
step on. Besides: how long such a message takes to the other rank, by the pipe and by gloo.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe_machine
from models import ensure_model
from workloads import VOCABULARY

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.packing import StepNumbers
from miao_worker.engine.tensor_parallel.group import Group
from miao_worker.engine.tensor_parallel.loading import fork_ranks, load_generating
from miao_worker.engine.tensor_parallel.messages import ComputeStep
from miao_worker.engine.tensor_parallel.ranks import Ranks
from miao_worker.engine.types import SamplingParams, SequenceRequest

BATCHES = (1, 8, 32)
CONTEXT = 32
ROUND_TRIPS = 300


class Meter:
    """Counts calls of functions and adds up their time."""

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.calls += 1
                self.seconds += time.perf_counter() - started

        return metered


def serve(connection: Connection[Any, Any], config: EngineConfig) -> None:
    """Measure as many rows as are asked for, until none are."""
    ranks = fork_ranks(config, connection)
    engine = load_generating(config, ranks)
    exchanges, telling = Meter(), Meter()
    if ranks is not None:
        for name in ("sum_", "gather", "gather_all"):
            setattr(ranks.group, name, exchanges.over(getattr(ranks.group, name)))
        ranks.send_bytes = telling.over(ranks.send_bytes)  # type: ignore[method-assign]
    connection.send("ready")
    while (asked := connection.recv()) is not None:
        connection.send(measure(engine, *asked, exchanges, telling))


def measure(
    engine: Engine, rows: int, steps: int, exchanges: Meter, telling: Meter
) -> dict[str, float]:
    """Times of decode steps, in seconds, and what of them was what."""
    source = random.Random(rows)
    names = [f"{rows}-{i}" for i in range(rows)]
    for name in names:
        prompt = tuple(source.choices(VOCABULARY, k=CONTEXT))
        sampling = SamplingParams(max_tokens=steps + 8, seed=0, temperature=0)
        engine.add(SequenceRequest(name, prompt, sampling))
    while engine._scheduler.num_running < rows or engine.step().stats.num_waiting:
        engine.step()
    engine.step()
    before = (exchanges.calls, exchanges.seconds, telling.seconds)
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        engine.step()
        times.append(time.perf_counter() - started)
    for name in names:
        engine.cancel(name)
    return {
        "step": statistics.median(times),
        "exchanges": (exchanges.calls - before[0]) / steps,
        "in_exchanges": (exchanges.seconds - before[1]) / steps,
        "telling": (telling.seconds - before[2]) / steps,
    }


def echo(group: Group, pipe: Connection[Any, Any]) -> None:
    """Answer messages, by the pipe and then by gloo."""
    for _ in range(ROUND_TRIPS):
        pipe.send_bytes(pipe.recv_bytes())
    group.connect(torch.device("cpu"))
    numbers = torch.from_numpy(np.frombuffer(bytearray(pipe.recv_bytes()), dtype=np.int64))
    for _ in range(ROUND_TRIPS):
        torch.distributed.broadcast(numbers, src=0)
        torch.distributed.broadcast(numbers, src=1)


def round_trips(connection: Connection[Any, Any], rows: int) -> None:
    """Half the time of a message's way there and back, by either means."""
    ones = np.ones(rows, dtype=np.int64)
    message = ComputeStep(StepNumbers(ones, ones, ones, [], ones), [], False).to_bytes()
    ranks = Ranks.fork(2, echo, connection)
    (pipe,) = ranks._pipes
    by_pipe, by_gloo = [], []
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        ranks.send_bytes(message)
        pipe.recv_bytes()
        by_pipe.append((time.perf_counter() - started) / 2)
    ranks.group.connect(torch.device("cpu"))
    ranks.send_bytes(message)
    numbers = torch.from_numpy(np.frombuffer(bytearray(message), dtype=np.int64))
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        torch.distributed.broadcast(numbers, src=0)
        torch.distributed.broadcast(numbers, src=1)
        by_gloo.append((time.perf_counter() - started) / 2)
    connection.send(
        {
            "bytes": len(message),
            "pipe_us": round(statistics.median(by_pipe) * 1e6, 1),
            "gloo_us": round(statistics.median(by_gloo) * 1e6, 1),
        }
    )


def start(target: Callable[..., None], *arguments: object) -> Connection[Any, Any]:
    """A process that has no thread yet, and the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=target, args=(theirs, *arguments), daemon=False).start()
    theirs.close()
    return ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen2-0.5b", help="of models.py, or a folder")
    parser.add_argument("--threads", type=int, default=2, help="of one process, or of two together")
    parser.add_argument("--steps", type=int, default=12, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = Path(options.model)
    model = str(folder if folder.is_dir() else ensure_model(options.model))
    engines = {}
    for size in (1, 2):
        config = EngineConfig(
            model,
            device="cpu",
            cpu_kernels=False,
            num_threads=max(1, options.threads // size),
            tensor_parallel_size=size,
            max_model_length=512,
            prefix_cache=False,
        )
        engines[size] = start(serve, config)
    for engine in engines.values():
        engine.recv()
    found: dict[tuple[int, int], list[dict[str, float]]] = {}
    for _ in range(options.turns):
        for rows in BATCHES:
            for size, engine in engines.items():
                engine.send((rows, options.steps))
                found.setdefault((rows, size), []).append(engine.recv())
    for engine in engines.values():
        engine.send(None)
    table = [row_of(rows, found[rows, 1], found[rows, 2]) for rows in BATCHES]
    messages = [start(round_trips, rows).recv() for rows in (1, 64)]
    result = {"model": folder.name, "steps": table, "messages": messages}
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.write_text(json.dumps({**describe_machine(), **result}, indent=1) + "\n")


def row_of(rows: int, one: list[dict[str, float]], two: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the turns, in milliseconds."""

    def median(turns: list[dict[str, float]], name: str) -> float:
        return round(statistics.median(turn[name] for turn in turns) * 1e3, 3)

    return {
        "rows": rows,
        "one_ms": median(one, "step"),
        "two_ms": median(two, "step"),
        "ratio": round(median(two, "step") / median(one, "step"), 2),
        "exchanges": two[0]["exchanges"],
        "in_exchanges_ms": median(two, "in_exchanges"),
        "telling_ms": median(two, "telling"),
    }


if __name__ == "__main__":
    main()
