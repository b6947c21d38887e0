"""What a front costs: CPU for each relayed message and each submission, and the delay it adds.

    python benchmarks/front_relay.py --output benchmarks/results/front-relay.json

A real front on an embedded Valkey; the worker's part is played here, which writes
tokens at a pace (or as fast as Redis takes them) into the journals of many streams.
Callers read in a process of their own through plain gRPC. The delay is from just
before the append to the caller's hands; it holds Redis's and the caller's share too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psutil
import uvloop
from machine import describe_machine
from redis import Redis

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao_queue import connection, events, keys, records
from miao_queue.cards import Presence
from miao_queue.claims import Append, Claim, ClaimStore, Entry, QueueSource
from miao_queue.protection import UNPROTECTED, Protection
from miao_worker.bundled import bundled_model_path
from miao_worker.stack import redis_program

MODEL = "relayed"
SOURCES = [QueueSource(name, MODEL) for name in keys.queue_names(MODEL)]
GENERATE = "/miao.v1.GenerationService/Generate"
# Streams, steps, seconds between two steps (0: none).
SHAPES = [(1, 300, 0.01), (32, 300, 0.02), (256, 100, 0.05), (32, 300, 0.0)]


def read_streams(port: int, streams: int, results: Any) -> None:
    """The callers' process: puts (messages, delays in seconds)."""

    async def read() -> None:
        delays: list[float] = []
        count = 0

        async def one() -> None:
            nonlocal count
            request = rpc.GenerateRequest(spec=pb.GenerationSpec(prompt="hello"))
            async for raw in generate(request):
                count += 1
                if count % 17 == 0:  # parsing all would make this process the limit
                    event = rpc.GenerateResponse.FromString(raw).event
                    if event.HasField("tokens"):
                        delays.append(time.time() - float(event.tokens.text))

        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            generate = channel.unary_stream(
                GENERATE, request_serializer=rpc.GenerateRequest.SerializeToString
            )
            await asyncio.gather(*(one() for _ in range(streams)))
        results.put((count, delays))

    uvloop.run(read())


class PlayedWorker:
    """Claims what is submitted and writes tokens that say when they were written."""

    def __init__(self, url: str, protection: Protection = UNPROTECTED) -> None:
        redis = connection.connect(url)
        card = ModelCard(
            name=MODEL,
            max_model_length=4096,
            vocab_size=1000,
            tokenizer_json=(bundled_model_path() / "tokenizer.json").read_text("utf-8"),
        )
        presence = Presence(redis, card, "played")
        presence.announce(600_000)
        self._claims = ClaimStore(redis, "played", 600_000, protection)
        self._running: list[tuple[Claim, int]] = []

    def claim(self, count: int) -> None:
        while len(self._running) < count:
            claim = self._claims.claim(SOURCES, uuid4().hex)
            if isinstance(claim, Claim):
                self._running.append((claim, 0))
            else:
                time.sleep(0.002)

    def step(self) -> None:
        now = repr(time.time())
        appends = []
        for claim, tokens in self._running:
            event = pb.Tokens(text=now, token_ids=[7])
            payload = events.tokens(tokens + 1, 1, event, output_digest=0)
            entry = Entry(tokens, tokens + 1, payload)
            appends.append(Append(claim.record.generation_id, claim.owner, entry))
        self._claims.append(appends)
        self._running = [(claim, tokens + 1) for claim, tokens in self._running]

    def finish(self) -> None:
        for claim, tokens in self._running:
            finished = records.finished_message(
                claim.record, pb.FINISH_REASON_LENGTH, self._claims.now_ms(), output_tokens=tokens
            )
            event = events.finished(tokens, 1, finished)
            self._claims.finish(claim, tokens, event, finished.SerializeToString(), 60)
        self._running.clear()


def measure(
    worker: PlayedWorker, front: psutil.Process, port: int, streams: int, steps: int, pace: float
) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    before = _cpu(front)
    callers = context.Process(target=read_streams, args=(port, streams, results))
    callers.start()
    worker.claim(streams)
    time.sleep(0.3)  # the last answers to submissions
    submitted, began = _cpu(front), time.monotonic()
    for step in range(steps):
        worker.step()
        if pace:
            time.sleep(max(0.0, began + (step + 1) * pace - time.monotonic()))
    worker.finish()
    count, delays = results.get(timeout=120)
    seconds = time.monotonic() - began
    callers.join()
    quantiles = statistics.quantiles(delays, n=100, method="inclusive")
    return {
        "streams": streams,
        "pace_ms": pace * 1000,
        "messages_per_second": round(count / seconds),
        "front_us_per_message": round(1e6 * (_cpu(front) - submitted) / count, 1),
        "front_ms_per_submission": round(1e3 * (submitted - before) / streams, 2),
        "delay_p50_ms": round(1e3 * quantiles[49], 2),
        "delay_p99_ms": round(1e3 * quantiles[98], 2),
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--redis-port", type=int, default=16391)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    url = f"redis://127.0.0.1:{options.redis_port}/0"
    with tempfile.TemporaryDirectory() as folder:
        redis = [redis_program(), "--port", str(options.redis_port), "--dir", folder]
        redis += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        with started(redis, stdout=subprocess.DEVNULL):
            connection.wait_until_ready(Redis.from_url(url, retry=None), 10)
            rows = _measure_all(url)
    if options.output:
        result = {"machine": describe_machine(), "rows": rows}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


def _measure_all(url: str) -> list[dict[str, float]]:
    worker = PlayedWorker(url)
    command = [sys.executable, "-m", "miao_service", "--listen", "127.0.0.1:0", "--redis-url", url]
    with started(command, stdout=subprocess.PIPE) as front:
        assert front.stdout is not None
        port = int(front.stdout.readline().rsplit(":", 1)[1])
        rows = []
        for shape in SHAPES:
            rows.append(measure(worker, psutil.Process(front.pid), port, *shape))
            print(json.dumps(rows[-1]), flush=True)
        return rows


if __name__ == "__main__":
    main()
