"""What the way of a token costs without the model: CPU of each process by token.

    python benchmarks/service_path.py --output benchmarks/results/service-path.json

The whole service with an engine that computes nothing and yields a token for each
sequence at a pace (`paced_worker.py`), so that every token is an event of its own, as
with a model whose step takes so long. What the processes use while nothing runs is
measured before and taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes
from fleet import Fleet
from machine import describe_machine
from workloads import VOCABULARY, Callers

SHORT, LONG = 16, 216
IDLE_SECONDS = 3.0
WORKER = Path(__file__).with_name("paced_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--pace-ms", type=float, default=20.0, help="of the engine's step")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with paced_service(options.pace_ms) as callers:
        callers.call_all(_prompts(2, "warm"), 50)
        idle = _idle_cores()
        rounded = {part: round(share, 4) for part, share in idle.items()}
        print("idle, share of a core:", json.dumps(rounded), flush=True)
        rows = [_measure(callers, count, options.reps, idle) for count in options.callers]
    if options.output:
        result = {"machine": describe_machine(), "pace_ms": options.pace_ms, "rows": rows}
        result["idle_cores"] = rounded
        options.output.write_text(json.dumps(result, indent=1) + "\n")


@contextmanager
def paced_service(pace_ms: float) -> Iterator[Callers]:
    """A fleet of one front and one worker, which computes nothing."""
    os.environ["MIAO_PACE_MS"] = str(pace_ms)
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, str(WORKER)]
        fleet = Fleet(Path(folder), 1, 1, ["--cache-gib", "0.05"], program)
        fleet.start()
        try:
            with Callers(fleet.targets[0]) as callers:
                yield callers
        finally:
            fleet.stop()


def _idle_cores() -> dict[str, float]:
    """What each part takes of a core while nothing runs."""
    before = processes.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    after = processes.cpu_seconds()
    return {part: (after[part] - before[part]) / IDLE_SECONDS for part in after}


def _measure(callers: Callers, count: int, reps: int, idle: dict[str, float]) -> dict[str, Any]:
    runs = [_costs(callers, count, f"{count}/{rep}", idle) for rep in range(reps)]
    row = {
        "callers": count,
        "tokens_per_second": round(statistics.median(rate for rate, _ in runs)),
        "cpu_us_per_token": {
            part: round(statistics.median(costs[part] for _, costs in runs), 1)
            for part in processes.PARTS
        },
    }
    print(json.dumps(row), flush=True)
    return row


def _costs(
    callers: Callers, count: int, key: str, idle: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """Tokens a second, and microseconds of CPU by token.

    A short output for the same number of prompts is taken off: it is what a generation
    costs.
    """
    short, _ = _run(callers, count, SHORT, f"short/{key}", idle)
    long, seconds = _run(callers, count, LONG, f"long/{key}", idle)
    tokens = count * (LONG - SHORT)
    return count * LONG / seconds, {p: 1e6 * (long[p] - short[p]) / tokens for p in long}


def _run(
    callers: Callers, count: int, new_tokens: int, key: str, idle: dict[str, float]
) -> tuple[dict[str, float], float]:
    before, began = processes.cpu_seconds(), time.perf_counter()
    callers.call_all(_prompts(count, key), new_tokens)
    seconds = time.perf_counter() - began
    after = processes.cpu_seconds()
    return {p: after[p] - before[p] - idle[p] * seconds for p in after}, seconds


def _prompts(count: int, key: str) -> list[list[int]]:
    source = random.Random(key)
    return [source.choices(VOCABULARY, k=64) for _ in range(count)]


if __name__ == "__main__":
    main()
