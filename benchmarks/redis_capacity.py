"""What one Redis carries, and where it ends: generations, tokens and streams a second.

    python benchmarks/redis_capacity.py --output benchmarks/results/redis-capacity

The queue's and the journals' real code against one Valkey with its append-only file; what is
played is the model and the caller. Processes that submit and follow as a front does, and
processes that claim, append a step for all they hold, renew and finish as a worker does, as
fast as they can or at a pace. Redis does all of it on one core, so its CPU for each token and
each generation says where it ends: where that core is full. What the drivers on this machine
cannot reach is worked out from that, and marked so. Writes FOLDER/capacity.json and capacity.png.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop
from durability import OPEN
from fleet import free_port
from machine import describe_machine
from matplotlib.figure import Figure
from redis import Redis

from miao.internal.v1.queue_pb2 import Job, ModelCard
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, events, keys, records
from miao_queue.cards import Presence
from miao_queue.claims import Append, Claim, ClaimStore, Entry, QueueSource
from miao_queue.durability import Durability, Safety
from miao_queue.records import Submission, SubmitOutcome
from miao_queue.store import GenerationStore
from miao_service.journal_reader import JournalReader
from miao_worker.stack import redis_program

MODEL = "capacity"
SOURCES = [QueueSource(name, MODEL) for name in keys.queue_names(MODEL)]
LEASE_MS = 3000
QUIET = ["--set-proc-title", "no"]  # else its environment cannot be read from outside


@dataclass(frozen=True)
class Shape:
    """One load.

    rows: generations that each worker holds; tokens: of each; pace: seconds of a step, 0: none.
    followed: whether fronts read the journals.
    """

    workers: int
    rows: int
    tokens: int
    pace: float
    fronts: int = 1
    followed: bool = True
    prompt: int = 200


SHAPES = [
    *(Shape(1, rows, 400, 0.0, followed=False) for rows in (1, 8, 32, 128, 512)),
    *(Shape(1, rows, 400, 0.0) for rows in (8, 32, 128, 512)),
    Shape(1, 64, 1, 0.0, followed=False),
    Shape(1, 64, 1, 0.0),
    Shape(4, 32, 200, 0.1, fronts=1),
    Shape(4, 128, 200, 0.25, fronts=1),
]


class PlayedWorker:
    """Holds so many generations, and says a token for each in every step."""

    def __init__(self, url: str, shape: Shape) -> None:
        redis = connection.connect(url)
        name = uuid.uuid4().hex
        Presence(redis, ModelCard(name=MODEL, max_model_length=4096), name).announce(600_000)
        self._claims = ClaimStore(redis, name, LEASE_MS)
        self._shape = shape
        self._running: dict[str, tuple[Claim, int]] = {}
        self._renew_at = 0.0

    def run(self, stopping: Any, tokens: Any, generations: Any) -> None:
        """Step until told to stop; counts what it wrote."""
        due = time.monotonic()
        while not stopping.is_set():
            self._claim()
            tokens.value += self._step()
            generations.value += self._finish()
            if time.monotonic() >= self._renew_at:
                self._claims.renew([claim for claim, _ in self._running.values()])
                self._renew_at = time.monotonic() + LEASE_MS / 6000
            due = max(due + self._shape.pace, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()) if self._running else 0.001)

    def _claim(self) -> None:
        while len(self._running) < self._shape.rows:
            claim = self._claims.claim(SOURCES, uuid.uuid4().hex)
            if not isinstance(claim, Claim):
                return
            self._running[claim.owner] = claim, 0

    def _step(self) -> int:
        appends = []
        for owner, (claim, said) in self._running.items():
            event = pb.Tokens(text="word ", token_ids=[1000])
            payload = events.tokens(said + 1, 1, event, output_digest=0)
            appends.append(
                Append(claim.record.generation_id, owner, Entry(said, said + 1, payload))
            )
            self._running[owner] = claim, said + 1
        if appends:
            self._claims.append(appends)
        return len(appends)

    def _finish(self) -> int:
        ended = [pair for pair in self._running.values() if pair[1] >= self._shape.tokens]
        now = self._claims.now_ms() if ended else 0
        for claim, said in ended:
            end = records.finished_message(
                claim.record, pb.FINISH_REASON_LENGTH, now, output_tokens=said
            )
            event = events.finished(said, 1, end)
            self._claims.finish(claim, said, event, end.SerializeToString(), 10)
            del self._running[claim.owner]
        return len(ended)


class PlayedFront:
    """Keeps so many generations open, and follows each to its end."""

    def __init__(self, url: str, shape: Shape, ended: list[Any]) -> None:
        """`ended`: how many generations each worker has ended."""
        self._url = url
        self._shape = shape
        self._ended = ended
        self._submitted = 0

    async def run(self, stopping: Any, read: Any) -> None:
        """Submit and follow until told to stop; counts events that came."""
        front = uuid.uuid4().hex
        client = connection.connect_async(self._url, max_connections=64)
        store = GenerationStore(client, front, Durability(Safety.SERVER, 10_000))
        reader = JournalReader(
            connection.connect_async(self._url, max_connections=8), front, 1 << 20, 5.0, 30.0
        )
        reading = asyncio.create_task(reader.run()) if self._shape.followed else None
        # Some more than the workers hold, so that none of them waits for work.
        streams = -(-self._shape.workers * self._shape.rows // self._shape.fronts)
        count = streams + streams // 4 + 2
        callers = [self._call(store, reader, stopping, read) for _ in range(count)]
        await asyncio.gather(*callers)
        if reading is not None:
            reading.cancel()

    async def _call(
        self, store: GenerationStore, reader: JournalReader, stopping: Any, read: Any
    ) -> None:
        while not stopping.is_set():
            submission = _submission(self._shape.prompt)
            if not self._shape.followed:
                await self._until_room(stopping)
                await self._submit(store, submission)
                continue
            follower = reader.follow(submission.generation_id, exists=False)
            await self._submit(store, submission)
            while not stopping.is_set() and not (follower.has_ended and not follower.waiting_bytes):
                with contextlib.suppress(TimeoutError):
                    events_read = await asyncio.wait_for(follower.next_batch(), 2.0)
                    read.value += len(events_read)
            reader.leave(follower)

    async def _submit(self, store: GenerationStore, submission: Submission) -> None:
        self._submitted += 1
        result = await store.submit(submission, OPEN)
        assert result.outcome is SubmitOutcome.ACCEPTED

    async def _until_room(self, stopping: Any) -> None:
        """Nobody follows: another is submitted when one has ended, wherever."""
        open_at_most = self._shape.workers * self._shape.rows * 5 // 4 + 2
        while not stopping.is_set():
            ended = sum(counter.value for counter in self._ended)
            if self._submitted - ended < open_at_most:
                return
            await asyncio.sleep(0.005)


def _submission(prompt: int) -> Submission:
    return Submission(
        request_id=uuid.uuid4().hex,
        model=MODEL,
        job=Job(prompt_token_ids=range(prompt), max_tokens=4096, sampling=pb.Sampling(seed=1)),
        accepted=pb.Accepted(model=MODEL),
        fingerprint="f",
        timeout_ms=600_000,
        queue_timeout_ms=600_000,
        retention_seconds=10,
    )


def _work(url: str, shape: Shape, stopping: Any, tokens: Any, generations: Any) -> None:
    PlayedWorker(url, shape).run(stopping, tokens, generations)


def _front(url: str, shape: Shape, ended: list[Any], stopping: Any, read: Any) -> None:
    uvloop.run(PlayedFront(url, shape, ended).run(stopping, read))


def measure(url: str, shape: Shape, seconds: float) -> dict[str, Any]:
    """Run a load for so long, after a beginning that is not counted."""
    context = multiprocessing.get_context("spawn")
    stopping = context.Event()
    tokens = [context.Value("q", 0, lock=False) for _ in range(shape.workers)]
    ended = [context.Value("q", 0, lock=False) for _ in range(shape.workers)]
    read = [context.Value("q", 0, lock=False) for _ in range(shape.fronts)]
    workers = [(_work, (url, shape, stopping, *pair)) for pair in zip(tokens, ended, strict=True)]
    fronts = [(_front, (url, shape, ended, stopping, each)) for each in read]
    processes = [context.Process(target=f, args=a, daemon=True) for f, a in [*workers, *fronts]]
    for process in processes:
        process.start()
    with Redis.from_url(url) as redis:
        deadline = time.monotonic() + 60
        while sum(each.value for each in tokens) < 3 * shape.rows * shape.workers:
            assert time.monotonic() < deadline, "nothing is written"
            time.sleep(0.05)
        before, began = _state(redis, tokens, ended, read), time.monotonic()
        time.sleep(seconds)
        after, passed = _state(redis, tokens, ended, read), time.monotonic() - began
    stopping.set()
    for process in processes:
        process.join(15)
        process.kill()
    change = {name: (after[name] - before[name]) / passed for name in after}
    row = asdict(shape) | {
        "tokens_per_second": round(change["tokens"]),
        "generations_per_second": round(change["ended"], 2),
        "events_read_per_second": round(change["read"]),
        "redis_core": round(change["cpu"], 4),
        "redis_commands_per_second": round(change["commands"]),
    }
    print(json.dumps(row), flush=True)
    return row


def _state(redis: Any, tokens: list[Any], ended: list[Any], read: list[Any]) -> dict[str, float]:
    info = redis.info()
    return {
        "tokens": sum(each.value for each in tokens),
        "ended": sum(each.value for each in ended),
        "read": sum(each.value for each in read),
        # Of the thread that runs commands, where Redis says it.
        "cpu": info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"],
        "commands": info["total_commands_processed"],
    }


def costs(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Microseconds of Redis for a generation, and for a token by the rows of a step.

    What a generation costs besides its tokens is seen where it has one token alone.
    """
    single = {row["followed"]: row for row in rows if row["tokens"] == 1}
    found: dict[str, float] = {}
    for followed, name in ((False, "written"), (True, "written_and_read")):
        alone = single[followed]
        generation = 1e6 * alone["redis_core"] / alone["generations_per_second"]
        found[f"us_per_generation_{name}"] = round(generation)
        for row in rows:
            if row["followed"] == followed and row["tokens"] > 1 and not row["pace"]:
                used = row["redis_core"] - 1e-6 * generation * row["generations_per_second"]
                found[f"us_per_token_{name}_{row['rows']}_rows"] = round(
                    1e6 * used / row["tokens_per_second"], 2
                )
    return found


@contextmanager
def _redis(folder: str) -> Iterator[str]:
    port = free_port()
    options = ["--port", str(port), "--dir", folder, "--save", "", "--bind", "127.0.0.1"]
    command = [redis_program(), *options, "--appendonly", "yes", *QUIET]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with Redis.from_url(url, retry=None) as client:
            connection.wait_until_ready(client, 10)
        yield url
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load")
    parser.add_argument("--output", type=Path, help="a folder")
    options = parser.parse_args()
    rows = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder, _redis(folder) as url:
            rows.append(measure(url, shape, options.seconds))
    result = {"machine": describe_machine(), "rows": rows, "costs": costs(rows)}
    print(json.dumps(result["costs"], indent=1))
    if options.output:
        (options.output / "capacity.json").write_text(json.dumps(result, indent=1) + "\n")
        draw(rows).savefig(options.output / "capacity.png", dpi=110)


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Tokens a second by the rows of a step: seen here, and where Redis's core is full."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for followed, colour, name in ((False, "#2a6fdb", "written"), (True, "#d9532c", "and read")):
        kept = [r for r in rows if r["followed"] == followed and r["tokens"] > 1 and not r["pace"]]
        sizes = [row["rows"] for row in kept]
        full = [row["tokens_per_second"] / row["redis_core"] for row in kept]
        axes.plot(sizes, full, color=colour, linestyle="--", label=f"{name}: Redis's core full")
        seen = [row["tokens_per_second"] for row in kept]
        axes.plot(sizes, seen, color=colour, marker="o", label=f"{name}: seen here")
    axes.set(xscale="log", yscale="log", xlabel="rows of a step", ylabel="tokens a second")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(visible=True, color="#e6e8ee")
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
