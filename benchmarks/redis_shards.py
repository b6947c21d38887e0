"""What several Redis carry beyond one: the CPU of all of them for a token and for a generation.

    python benchmarks/redis_shards.py --output benchmarks/results/redis-shards

As `redis_capacity.py`, whose worker and front are played here toward 1, 2 and 4 Redis: the worker
holds generations of all, and appends a step at each of them; the front puts each where the hash
of its id says, and follows it there. Two cores carry no more of them than of one; so what counts
is Redis's CPU for the same work. Measured twice: with as many rows in all, so that each Redis gets
a smaller part of every step, and with as many for each. Writes FOLDER/shards.json and shards.png.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import tempfile
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop
from durability import OPEN
from machine import describe_machine
from matplotlib.figure import Figure
from redis import Redis
from redis_capacity import LEASE_MS, PlayedWorker, Shape, _redis, _submission

from miao_queue import connection
from miao_queue.addresses import ShardMap
from miao_queue.durability import Durability, Safety
from miao_queue.records import SubmitOutcome
from miao_queue.store import GenerationStore
from miao_service.journal_reader import JournalReader

COUNTS = (1, 2, 4)
ROWS = 64  # of the worker
LENGTH = 200
ANSWER_TOKENS = 194  # of an answer of the plan in docs/scale.md


def _work(urls: list[str], shape: Shape, stopping: Any, tokens: Any, generations: Any) -> None:
    """One worker: a part of its rows at each Redis, and a step at all of them in turn."""
    share = Shape(1, -(-shape.rows // len(urls)), shape.tokens, 0.0)
    parts = [PlayedWorker(url, share) for url in urls]
    renew_at = 0.0
    while not stopping.is_set():
        for part in parts:
            part._claim()
            tokens.value += part._step()
            generations.value += part._finish()
        if time.monotonic() >= renew_at:
            for part in parts:
                part._claims.renew([claim for claim, _ in part._running.values()])
            renew_at = time.monotonic() + LEASE_MS / 6000


def _front(urls: list[str], shape: Shape, stopping: Any, read: Any, placed: Any) -> None:
    uvloop.run(_call_all(urls, shape, stopping, read, placed))


async def _call_all(urls: list[str], shape: Shape, stopping: Any, read: Any, placed: Any) -> None:
    front = uuid.uuid4().hex
    shards = _shard_map(urls)
    names = [shard.name for shard in shards.shards]
    stores, readers = [], []
    for url in urls:
        client = connection.connect_async(url, max_connections=64)
        stores.append(GenerationStore(client, front, Durability(Safety.SERVER, 10_000)))
        journals = connection.connect_async(url, max_connections=8)
        readers.append(JournalReader(journals, front, 1 << 20, 5.0, 30.0))
    reading = [asyncio.create_task(reader.run()) for reader in readers]

    async def call() -> None:
        while not stopping.is_set():
            submission = _submission(shape.prompt)
            at = names.index(shards.candidates(submission.generation_id)[0].name)
            follower = readers[at].follow(submission.generation_id, exists=False)
            result = await stores[at].submit(submission, OPEN)
            assert result.outcome is SubmitOutcome.ACCEPTED
            placed[at] += 1
            while not stopping.is_set() and not (follower.has_ended and not follower.waiting_bytes):
                with contextlib.suppress(TimeoutError):
                    events = await asyncio.wait_for(follower.next_batch(), 2.0)
                    read.value += len(events)
            readers[at].leave(follower)

    # So many more than the worker has rows, that no Redis is without work for chance.
    await asyncio.gather(*(call() for _ in range(2 * shape.rows)))
    for task in reading:
        task.cancel()


def _shard_map(urls: list[str]) -> ShardMap:
    return ShardMap.parse(",".join(f"s{number}={url}" for number, url in enumerate(urls)))


def measure(urls: list[str], shape: Shape, seconds: float) -> dict[str, Any]:
    """Run a load for so long, after a beginning that is not counted."""
    context = multiprocessing.get_context("spawn")
    stopping = context.Event()
    tokens, ended, read = (context.Value("q", 0, lock=False) for _ in range(3))
    placed = context.Array("q", len(urls), lock=False)
    processes = [
        context.Process(target=_work, args=(urls, shape, stopping, tokens, ended), daemon=True),
        context.Process(target=_front, args=(urls, shape, stopping, read, placed), daemon=True),
    ]
    for process in processes:
        process.start()
    clients = [Redis.from_url(url) for url in urls]

    def state() -> dict[str, Any]:
        infos = [client.info() for client in clients]
        cpu = [i["used_cpu_user_main_thread"] + i["used_cpu_sys_main_thread"] for i in infos]
        return {"tokens": tokens.value, "ended": ended.value, "read": read.value, "cpu": sum(cpu)}

    deadline = time.monotonic() + 60
    while tokens.value < 10 * shape.rows:
        assert time.monotonic() < deadline, "nothing is written"
        time.sleep(0.05)
    before, began = state(), time.monotonic()
    time.sleep(seconds)
    after, passed = state(), time.monotonic() - began
    stopping.set()
    for process in processes:
        process.kill()
        process.join()
    for client in clients:
        client.close()
    change = {name: (after[name] - before[name]) / passed for name in after}
    row = asdict(shape) | {
        "redis": len(urls),
        "tokens_per_second": round(change["tokens"]),
        "generations_per_second": round(change["ended"], 1),
        "events_read_per_second": round(change["read"]),
        "redis_cores": round(change["cpu"], 4),
        "busiest_share": round(max(placed) / max(1, sum(placed)), 3),
        "num_placed": sum(placed),
    }
    print(json.dumps(row), flush=True)
    return row


def costs(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """For each count of Redis: microseconds of all together, and what they then carry."""
    found = []
    for count in COUNTS:
        mine = [row for row in rows if row["redis"] == count]
        single = next(row for row in mine if row["tokens"] == 1)
        generation = 1e6 * single["redis_cores"] / single["generations_per_second"]
        cost: dict[str, float] = {"redis": count, "us_per_generation": round(generation, 1)}
        for name, size in (("in_all", ROWS), ("for_each", ROWS * count)):
            row = next(r for r in mine if r["tokens"] > 1 and r["rows"] == size)
            used = 1e6 * row["redis_cores"] - generation * row["generations_per_second"]
            token = used / row["tokens_per_second"]
            cost[f"us_per_token_{ROWS}_rows_{name}"] = round(token, 2)
            full = 1e6 * count / (generation + ANSWER_TOKENS * token)
            cost[f"answers_per_second_{ROWS}_rows_{name}"] = round(full)
        found.append(cost)
    return found


def draw(found: list[dict[str, float]]) -> Figure:
    """What N Redis carry, and what a token costs all of them together."""
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    carried, cost = figure.subplots(1, 2)
    counts = [row["redis"] for row in found]
    for name, colour, text in (
        ("for_each", "#2a6fdb", f"{ROWS} rows of a step for each"),
        ("in_all", "#d9532c", f"{ROWS} rows of a step in all"),
    ):
        full = [row[f"answers_per_second_{ROWS}_rows_{name}"] for row in found]
        carried.plot(counts, full, marker="o", color=colour, label=text)
        tokens = [row[f"us_per_token_{ROWS}_rows_{name}"] for row in found]
        cost.plot(counts, tokens, marker="o", color=colour)
    ideal = [found[0][f"answers_per_second_{ROWS}_rows_in_all"] * count for count in counts]
    carried.plot(counts, ideal, linestyle="--", color="#8a93a6", label="N times one")
    what = f"answers of {ANSWER_TOKENS} tokens a second"
    carried.set(xlabel="Redis", ylabel=what, ylim=(0, None))
    carried.legend(frameon=False, fontsize=8)
    cost.set(xlabel="Redis", ylabel="µs of all Redis for a token", ylim=(0, None))
    for axes in (carried, cost):
        axes.set_xticks(counts)
        axes.grid(visible=True, color="#e6e8ee")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load")
    parser.add_argument("--output", type=Path, help="a folder")
    options = parser.parse_args()
    rows = []
    for count in COUNTS:
        sizes = dict.fromkeys((ROWS, ROWS * count))
        for shape in (*(Shape(1, size, LENGTH, 0.0) for size in sizes), Shape(1, ROWS, 1, 0.0)):
            with contextlib.ExitStack() as stack:
                folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(count)]
                urls = [stack.enter_context(_redis(folder)) for folder in folders]
                rows.append(measure(urls, shape, options.seconds))
    found = costs(rows)
    print(json.dumps(found, indent=1))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        result = {"machine": describe_machine(), "rows": rows, "costs": found}
        (options.output / "shards.json").write_text(json.dumps(result, indent=1) + "\n")
        draw(found).savefig(options.output / "shards.png", dpi=110)


if __name__ == "__main__":
    main()
