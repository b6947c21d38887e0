"""Whether anything that a token costs grows with the tokens before it.

    python benchmarks/growth.py --output benchmarks/results/growth

Each part of the service takes one generation of 65,536 tokens, one after the other; what
is written is its time for one at 256, 1,024, ... of them, the median of runs of 32 just
before. Flat is right. What reads whole journals is divided by their tokens. Then the
memory that they take. Writes FOLDER/growth.json and growth.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet import Part, free_port
from growth_parts import JOURNAL_PARTS, MOST, TOKEN_PARTS, Take, journal, redis_parts, whole_parts
from machine import describe_machine
from matplotlib.figure import Figure
from redis import Redis

from miao_queue import connection, keys
from miao_queue.claims import Entry
from miao_worker.stack import redis_program

LENGTHS = [256, 1024, 4096, 16384, 65536]
RUN, RUNS = 32, 6  # tokens that are timed together, and how often before each length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="a folder")
    options = parser.parse_args()
    curves: dict[str, list[float]] = {}
    for name, make in TOKEN_PARTS.items():
        _note(curves, name, _token_costs(make()))
    entries = journal()
    for name, make_reader in JOURNAL_PARTS.items():
        _note(curves, name, _token_costs(make_reader(entries)))
    for name, read in whole_parts(entries).items():
        _note(curves, name, [_whole_cost(read, count) for count in LENGTHS])
    memory = {"worker": _worker_bytes()}
    memory["redis"] = _measure_redis(curves, entries)
    print("bytes a token:", json.dumps(memory))
    if options.output:
        _write(options.output, curves, memory)


def _token_costs(take: Take) -> list[float]:
    """Microseconds of a token at each length."""
    costs, done = [], 0
    for length in LENGTHS:
        begin = length - RUN * RUNS
        _take_all(take, done, begin)
        times = [_take_all(take, first, first + RUN) for first in range(begin, length, RUN)]
        done = length
        costs.append(1e6 * statistics.median(times) / RUN)
    return costs


def _take_all(take: Take, begin: int, end: int) -> float:
    started = time.perf_counter()
    for place in range(begin, end):
        take(place)
    return time.perf_counter() - started


def _whole_cost(read: Callable[[int], object], count: int) -> float:
    started = time.perf_counter()
    read(count)
    return 1e6 * (time.perf_counter() - started) / count


def _worker_bytes() -> float:
    """What the journal of a running generation takes of a worker's memory, a token."""
    tracemalloc.start()
    kept = journal()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(held / len(kept), 1)


def _measure_redis(curves: dict[str, list[float]], entries: list[Entry]) -> float:
    """Its curves; returns the bytes that it takes for a token."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [redis_program(), "--port", str(port), "--dir", folder, "--save", ""]
        command += ["--bind", "127.0.0.1", "--appendonly", "yes"]
        part = Part("redis", command, Path(folder), "Ready to accept connections")
        part.start()
        try:
            client = connection.connect(f"redis://127.0.0.1:{port}/0")
            connection.wait_until_ready(client, 30)
            with redis_parts(client, entries) as parts:
                for name, take in parts.items():
                    _note(curves, name, _token_costs(take))
            return _memory(client)
        finally:
            part.end()


def _memory(client: Redis) -> float:
    used: Any = client.memory_usage(keys.journal("growth"), samples=0)
    return round(used / MOST, 1)


def _note(curves: dict[str, list[float]], name: str, costs: list[float]) -> None:
    curves[name] = [round(cost, 2) for cost in costs]
    print(f"{name:34s}", *(f"{cost:9.1f}" for cost in costs), flush=True)


def _write(folder: Path, curves: dict[str, list[float]], memory: dict[str, float]) -> None:
    result = {
        "machine": describe_machine(),
        "tokens": LENGTHS,
        "us_per_token": curves,
        "bytes_per_token": memory,
    }
    (folder / "growth.json").write_text(json.dumps(result, indent=1) + "\n")
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    for name, costs in curves.items():
        axes.plot(LENGTHS, costs, marker="o", markersize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="tokens before it", ylabel="microseconds a token")
    axes.set_xticks(LENGTHS, [f"{length:,}" for length in LENGTHS])
    axes.set_title("What a token costs does not grow with the tokens before it")
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(folder / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
