"""What a failover by Sentinel costs: the silence of streams, and whether anything is lost.

    python benchmarks/failover.py --repetitions 6 --output benchmarks/results/failover.json

A primary, its replica and three sentinels (down after 0.5 s), a front and a worker with the bundled
model. In each repetition some callers stream; the replica stands still for a moment, so that it
lacks the tail; the primary gets SIGKILL. A stream is right where it says what an undisturbed call
says. `created` are generations that nobody follows, asked for while the replica stands still; with
`--durability replica` that takes until it is refused, and the streams have ended by then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fleet import Part, free_port
from machine import describe_machine

from miao_client import AsyncClient, NotFoundError

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.sentinels import SentinelFleet

NUM_STREAMS = 6
NUM_CREATED = 4
TOKENS = 400
STILL_SECONDS = 0.3
OPTIONS: dict[str, Any] = {"max_tokens": TOKENS, "ignore_eos": True, "seed": 7, "temperature": 1.0}


class Stream:
    """One caller's: what came, and when."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.token_ids: list[int] = []
        self.has_begun = asyncio.Event()

    async def read(self, target: str) -> None:
        async with AsyncClient(target) as client:
            async for chunk in client.generate("从前有一个", **OPTIONS):
                self.times.append(time.monotonic())
                self.token_ids += chunk.token_ids
                if len(self.times) > 20:
                    self.has_begun.set()

    def silence(self) -> float:
        pairs = zip(self.times, self.times[1:], strict=False)
        return max(after - before for before, after in pairs)


async def repeat(folder: Path, target: str, parts: list[Part], durable: str) -> dict[str, Any]:
    """One failover, on servers of its own."""
    sentinels = SentinelFleet(folder)
    try:
        sentinels.start()
        common = ["--redis-url", sentinels.url]
        module = [sys.executable, "-m"]
        front = [*module, "miao_service", *common, "--listen", target, "--durability", durable]
        parts += (
            Part("front", front, folder, "front listening on "),
            Part("worker", [*module, "miao_worker", *common], folder, "worker serving "),
        )
        for part in parts:
            part.start()
        for part in parts:
            part.wait_ready()
        return await _fail_over(sentinels, target)
    finally:
        for part in parts:
            part.end()
        sentinels.stop()


async def _fail_over(sentinels: SentinelFleet, target: str) -> dict[str, Any]:
    async with AsyncClient(target) as client:
        undisturbed = (await client.generate("从前有一个", **OPTIONS).result()).token_ids
        streams = [Stream() for _ in range(NUM_STREAMS)]
        reading = [asyncio.create_task(stream.read(target)) for stream in streams]
        await asyncio.gather(*(stream.has_begun.wait() for stream in streams))
        with sentinels.lagging():
            began = time.monotonic()
            creating = [client.create("从前有一个", **OPTIONS) for _ in range(NUM_CREATED)]
            replies = await asyncio.gather(*creating, return_exceptions=True)
            created = [reply for reply in replies if not isinstance(reply, BaseException)]
            await asyncio.sleep(max(0.0, STILL_SECONDS - (time.monotonic() - began)))
            killed = time.monotonic()
            dead = sentinels.kill()
        await asyncio.to_thread(sentinels.await_failover, dead)
        chosen = time.monotonic() - killed
        await asyncio.gather(*reading)
        lost = 0
        for generation in created:
            try:
                result = await client.follow(generation.generation_id).result()
                lost += result.token_ids != undisturbed
            except NotFoundError:
                lost += 1
    return {
        "chosen_after_seconds": round(chosen, 2),
        "gaps": [round(stream.silence(), 3) for stream in streams],
        "wrong": sum(stream.token_ids != list(undisturbed) for stream in streams),
        "created": len(created),
        "created_lost": lost,
        "created_refused": NUM_CREATED - len(created),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=6)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for durability in ("server", "replica"):
        found = []
        for _ in range(options.repetitions):
            with tempfile.TemporaryDirectory() as name:
                target = f"127.0.0.1:{free_port()}"
                found.append(asyncio.run(repeat(Path(name), target, [], durability)))
            print(durability, json.dumps(found[-1]), flush=True)
        gaps = [gap for each in found for gap in each["gaps"]]
        rows.append(
            {
                "durability": durability,
                "failovers": len(found),
                "streams": len(gaps),
                "gap_p50": round(statistics.median(gaps), 2),
                "gap_max": max(gaps),
                "chosen_p50": statistics.median(each["chosen_after_seconds"] for each in found),
                "streams_wrong": sum(each["wrong"] for each in found),
                "created": sum(each["created"] for each in found),
                "created_lost": sum(each["created_lost"] for each in found),
                "created_refused": sum(each["created_refused"] for each in found),
            }
        )
    print(json.dumps(rows, indent=1))
    if options.output:
        result = {"machine": describe_machine(), "rows": rows}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
