"""From the first command to the first token, and what memory the processes hold.

    python benchmarks/cold_start.py --repetitions 3 --output benchmarks/results/cold-start-cpu.json

The bundled model, everything on this machine, files in the page cache. Parts start at
once, so their seconds overlap. Memory is in MiB: resident, and the proportional share
where processes share pages.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import processes
from machine import describe_machine
from workloads import VOCABULARY, Callers

from miao_client import Client
from miao_worker.stack import Stack, StackSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    starts, memory = [], {}
    for _ in range(options.repetitions):
        seconds, memory = _start_once()
        starts.append(seconds)
        print(json.dumps(seconds), flush=True)
    print(json.dumps(memory))
    if options.output:
        result = {
            "machine": describe_machine(),
            "seconds": {
                name: round(statistics.median(start[name] for start in starts), 3)
                for name in starts[0]
            },
            "starts": starts,
            "memory_mib": memory,
        }
        options.output.write_text(json.dumps(result, indent=1) + "\n")


def _start_once() -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of each part, and the memory at rest and after eight callers."""
    seconds = {"command": _import_seconds()}
    began = time.monotonic()
    stack = Stack(StackSettings("127.0.0.1:0", []), lambda name, took: seconds.update({name: took}))
    stack.start()
    try:
        seconds["all_up"] = time.monotonic() - began
        with Client(stack.address) as client:
            stream = iter(client.generate("你好", max_tokens=8))
            next(stream)
            seconds["first_token"] = time.monotonic() - began - seconds["all_up"]
            for _ in stream:
                pass
        at_rest = processes.memory_mib()
        source = random.Random(0)
        with Callers(stack.address) as callers:
            callers.call_all([source.choices(VOCABULARY, k=128) for _ in range(8)], 128)
            after = processes.memory_mib()
    finally:
        stack.stop()
    seconds["total"] = sum(seconds[name] for name in ("command", "all_up", "first_token"))
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    return rounded, {"at_rest": at_rest, "after_8_callers": after}


def _import_seconds() -> float:
    """What the command itself takes before it starts anything."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import miao_worker.up"], check=True)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
