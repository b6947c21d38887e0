"""What encryption in Redis costs: for a piece, and for each token's way through worker and front.

    python benchmarks/encryption.py --output benchmarks/results/encryption.json

Two fronts on one embedded Valkey, one that encrypts and one that does not, take turns with
the same load; the worker's part is played here (front_relay.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from front_relay import PlayedWorker, measure, started
from machine import describe_machine
from redis import Redis

from miao_queue import connection
from miao_queue.key_ring import KeyRing, new_line
from miao_queue.protection import UNPROTECTED, Protection
from miao_queue.sealing import SealingVault
from miao_queue.signing import SIGNED, Signer
from miao_worker.stack import redis_program

SHAPES = [(32, 300, 0.02), (32, 600, 0.0)]  # streams, steps, seconds between two steps
TURNS = 3


def each_us(function: Callable[[], Any], count: int = 20_000) -> float:
    """Microseconds of CPU for a call: the best of five rounds."""
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            function()
        rounds.append((time.process_time() - began) / count * 1e6)
    return round(min(rounds), 2)


def pieces(ring: KeyRing) -> list[dict[str, float]]:
    vault, rows = SealingVault(ring), []
    for size in (60, 500, 4000, 100_000):
        payload, place = os.urandom(size), ("generation", "journal:12-0")
        sealed = vault.seal(*place, payload)
        count = 20_000 if size < 10_000 else 1_000
        seal = each_us(lambda place=place, payload=payload: vault.seal(*place, payload), count)
        opened = each_us(lambda place=place, sealed=sealed: vault.open(*place, sealed), count)
        more = len(sealed) - size
        rows.append({"bytes": size, "seal_us": seal, "open_us": opened, "more_bytes": more})
    return rows


def signature_us(ring: KeyRing) -> dict[str, float]:
    signer = Signer(ring)
    state = dict.fromkeys(SIGNED, b"x" * 20) | {"job": os.urandom(2000)}
    stored = {name.encode(): value for name, value in state.items()}
    stored[b"signature"] = signer.sign("g", state).encode()
    return {
        "sign_us": each_us(lambda: signer.sign("g", state)),
        "check_us": each_us(lambda: signer.check("g", stored)),
    }


class TimedWorker(PlayedWorker):
    """Counts the CPU that its steps take."""

    seconds = 0.0
    tokens = 0

    def step(self) -> None:
        began = time.process_time()
        super().step()
        self.seconds += time.process_time() - began
        self.tokens += len(self._running)


@contextmanager
def front(url: str, **environ: str) -> Iterator[tuple[psutil.Process, int]]:
    command = [sys.executable, "-m", "miao_service", "--listen", "127.0.0.1:0", "--redis-url", url]
    with started(command, stdout=subprocess.PIPE, env=os.environ | environ) as process:
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(process.stdout.readline().rsplit(":", 1)[1])


def turns(url: str, ring_file: Path) -> list[dict[str, Any]]:
    ring = KeyRing.read(str(ring_file))
    kinds = {"plain": UNPROTECTED, "sealed": Protection(SealingVault(ring))}
    environ = {"plain": {}, "sealed": {"MIAO_ENCRYPTION_KEYS": str(ring_file)}}
    rows = []
    with front(url, **environ["plain"]) as plain, front(url, **environ["sealed"]) as sealed:
        fronts = {"plain": plain, "sealed": sealed}
        for shape in SHAPES:
            found: dict[str, list[dict[str, float]]] = {"plain": [], "sealed": []}
            for _ in range(TURNS):
                for kind, protection in kinds.items():
                    worker = TimedWorker(url, protection)
                    row = measure(worker, *fronts[kind], *shape)
                    row["worker_us_per_token"] = round(worker.seconds / worker.tokens * 1e6, 1)
                    found[kind].append(row)
            for kind, several in found.items():
                middle = {name: statistics.median(row[name] for row in several) for name in row}
                rows.append({"kind": kind} | middle)
                print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--redis-port", type=int, default=16392)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    url = f"redis://127.0.0.1:{options.redis_port}/0"
    with tempfile.TemporaryDirectory() as folder:
        ring_file = Path(folder) / "ring"
        ring_file.write_text(new_line("k1"), "utf-8")
        ring = KeyRing.read(str(ring_file))
        result = {"pieces": pieces(ring), "signature": signature_us(ring)}
        print(json.dumps(result), flush=True)
        redis = [redis_program(), "--port", str(options.redis_port), "--dir", folder]
        redis += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        with started(redis, stdout=subprocess.DEVNULL):
            connection.wait_until_ready(Redis.from_url(url, retry=None), 10)
            result["rows"] = turns(url, ring_file)
    if options.output:
        result = {"machine": describe_machine()} | result
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
