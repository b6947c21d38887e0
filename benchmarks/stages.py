"""What each stage costs: CPU of every process by token and by generation, and its delay.

    python benchmarks/stages.py --output benchmarks/results/stages-cpu.json

Through the whole service, greedy. A short and a long output for the same prompts of 128
tokens: the difference is what tokens cost, the rest what a generation costs, its prompt
included. Delays are those of the long outputs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
from machine import describe_machine
from models import ensure_model
from workloads import VOCABULARY, Run, Runner, service

SHORT, LONG = 16, 272
PROMPT_TOKENS = 128
GENERATIONS = {1: 8, 8: 16, 32: 32}  # by the callers at once
MODELS = ("llama-tiny", "miao-tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = [row for model in options.models for row in _measure(model, options.reps)]
    if options.output:
        result = {"machine": describe_machine(), "rows": rows}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


def _measure(model: str, reps: int) -> Iterator[dict[str, Any]]:
    path = None if model == "miao-tiny" else str(ensure_model(model))
    with service(path) as run:
        for callers in GENERATIONS:
            _run_all(run, callers, SHORT, f"warm/{callers}")
        for callers in GENERATIONS:
            costs = [_costs(run, callers, str(rep)) for rep in range(reps)]
            yield (row := {"model": model, "callers": callers, **_medians(costs)})
            print(json.dumps(row), flush=True)


def _costs(run: Runner, callers: int, key: str) -> dict[str, dict[str, float]]:
    """One repetition: microseconds of CPU, and delays in milliseconds."""
    short, _ = _run_all(run, callers, SHORT, f"short/{key}")
    long, runs = _run_all(run, callers, LONG, f"long/{key}")
    count = GENERATIONS[callers]
    token = {part: (long[part] - short[part]) / (LONG - SHORT) / count for part in long}
    generation = {part: short[part] / count - SHORT * token[part] for part in short}
    return {
        "cpu_us_per_token": {part: 1e6 * value for part, value in token.items()},
        "cpu_us_per_generation": {part: 1e6 * value for part, value in generation.items()},
        "delay_ms": delays(runs),
    }


def delays(runs: list[Run]) -> dict[str, float]:
    """Medians of a generation's way to its first token, and between tokens (ms)."""
    first = [value for run in runs for value in run.first]
    queued = [value for run in runs for value in run.queued]
    answered = [value for run in runs for value in run.answered]
    between = [value for run in runs for value in run.between]
    computed = [a - q for a, q in zip(answered, queued, strict=True)]
    rest = [f - a for f, a in zip(first, answered, strict=True)]
    stages = {
        "accepted_to_claimed": queued,
        "claimed_to_first_token": computed,
        "call_and_relay": rest,  # before the acceptance, and from the journal to the caller
        "first_token": first,
        "between_tokens": between,
    }
    return {name: 1e3 * statistics.median(values) for name, values in stages.items()}


def _run_all(
    run: Runner, callers: int, new_tokens: int, key: str
) -> tuple[dict[str, float], list[Run]]:
    """CPU seconds of each part for all generations, so many callers at once."""
    source = random.Random(f"{key}/{callers}/{new_tokens}")
    prompts = [source.choices(VOCABULARY, k=PROMPT_TOKENS) for _ in range(GENERATIONS[callers])]
    before = processes.cpu_seconds()
    groups = [prompts[i : i + callers] for i in range(0, len(prompts), callers)]
    runs = [run(group, new_tokens) for group in groups]
    after = processes.cpu_seconds()
    return {part: after[part] - before[part] for part in after}, runs


def _medians(costs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        kind: {name: round(statistics.median(c[kind][name] for c in costs), 2) for name in values}
        for kind, values in costs[0].items()
    }


if __name__ == "__main__":
    main()
