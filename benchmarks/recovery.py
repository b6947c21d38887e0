"""How long callers wait when a process dies: the longest silence of each stream it served.

    python benchmarks/recovery.py --repetitions 8 --output benchmarks/results/recovery.json

One fleet on this machine, with the bundled model and the defaults of every part: a Redis
with its append-only file, two fronts, two workers. In each repetition some callers stream
at once, then one process gets SIGKILL:

    engine   of one worker, which starts another; `reload` is how long that takes
    worker   beside the other one, which takes over when the leases have ended
    front    beside the other one, at which the SDK goes on
    redis    which is started again at once and reads its file

A gap counts for the streams that the dead process served. `undisturbed` is the longest
silence of any stream before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet import Fleet, Part
from machine import describe_machine
from redis import Redis

from miao_client import AsyncClient
from miao_queue import keys

TOKENS_AROUND = 30  # that each stream has had before the kill, and gets after it
MOST_TOKENS = 900
FAILURES = ("engine", "worker", "front", "redis")
_DIED, _BACK = "the engine has ended", "another engine runs"


@dataclass
class Stream:
    """One caller's stream: when its tokens came, by the monotonic clock."""

    client: AsyncClient
    times: list[float] = field(default_factory=list)
    generation_id: str = ""

    async def read(self) -> None:
        async with self.client:
            stream = self.client.generate(
                "从前有一个", max_tokens=MOST_TOKENS, ignore_eos=True, temperature=1.0
            )
            async with stream:
                self.generation_id = await stream.accepted()
                async for _ in stream:
                    self.times.append(time.monotonic())

    def silence(self, begin: float, end: float) -> float:
        """The longest time between two tokens of which the second came within."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return max((after - before for before, after in pairs if begin < after < end), default=0.0)

    def num_since(self, moment: float) -> int:
        return sum(time > moment for time in self.times)


@dataclass
class Repetition:
    """What one kill did: seconds."""

    gaps: list[float]
    undisturbed: float
    reload: float = 0.0


class Bench:
    """Kills parts of a fleet under the eyes of callers."""

    def __init__(self, fleet: Fleet, num_streams: int) -> None:
        self._fleet = fleet
        self._num_streams = num_streams
        self._redis: Any = Redis.from_url(fleet.redis_url)

    async def repeat(self, failure: str) -> Repetition:
        """One repetition, from the first call until all is mended."""
        streams = [Stream(AsyncClient(self._fleet.targets)) for _ in range(self._num_streams)]
        began = time.monotonic()
        reading = [asyncio.create_task(stream.read()) for stream in streams]
        try:
            await _until(lambda: all(len(s.times) >= TOKENS_AROUND for s in streams), reading)
            served, kill, mend = self._plan(failure, streams)
            killed = time.monotonic()
            kill()
            await _until(lambda: all(s.num_since(killed) >= TOKENS_AROUND for s in served), reading)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
        now = time.monotonic()
        return Repetition(
            gaps=[stream.silence(killed, now) for stream in served],
            undisturbed=max(stream.silence(began, killed) for stream in streams),
            reload=mend(),
        )

    def _plan(
        self, failure: str, streams: list[Stream]
    ) -> tuple[list[Stream], Callable[[], None], Callable[[], float]]:
        """The streams that the victim serves, how to kill it, and how to mend that.

        Mending returns how long a reload took, where there was one.
        """
        if failure == "front":
            front = self._fleet.fronts[0]  # the SDK's first choice
            return streams, front.end, lambda: _start(front)
        if failure == "redis":
            return streams, self._restart_redis, lambda: 0.0
        worker, served = self._busiest(streams)
        if failure == "worker":
            return served, worker.end, lambda: _start(worker)
        engine, deaths = worker.engine(), len(_lines(worker, _DIED))
        return served, engine.kill, lambda: _reload_seconds(worker, deaths + 1)

    def _busiest(self, streams: list[Stream]) -> tuple[Part, list[Stream]]:
        """The worker with most of the streams, and those."""
        served: dict[int, list[Stream]] = {}
        for stream in streams:
            name = self._redis.hget(keys.generation(stream.generation_id), "worker").decode()
            pid = int(self._redis.hget(f"rq:worker:{name}", "pid"))
            served.setdefault(pid, []).append(stream)
        pid = max(served, key=lambda each: len(served[each]))
        return next(part for part in self._fleet.workers if part.pid == pid), served[pid]

    def _restart_redis(self) -> None:
        self._fleet.redis.end()
        self._fleet.redis.start()


def _start(part: Part) -> float:
    part.start()
    part.wait_ready()
    return 0.0


def _reload_seconds(worker: Part, deaths: int) -> float:
    """From when the worker knew of its engine's last death until another had its model."""
    back = worker.wait_for(_BACK, deaths, 60)[-1]
    died = _lines(worker, _DIED)[-1]
    return (_time_of(back) - _time_of(died)).total_seconds()


def _lines(part: Part, text: str) -> list[str]:
    return part.wait_for(text, 0, 1)


def _time_of(line: str) -> datetime:
    return datetime.strptime(" ".join(line.split()[:2]), "%Y-%m-%d %H:%M:%S,%f")


async def _until(condition: Callable[[], bool], reading: list[asyncio.Task[None]]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
            for ended in filter(asyncio.Task.done, reading):
                ended.result()
                raise RuntimeError("a stream has ended before its time: let it be longer")


def summary(failure: str, repetitions: list[Repetition]) -> dict[str, Any]:
    """A row of the result: seconds."""
    gaps = [gap for each in repetitions for gap in each.gaps]
    row: dict[str, Any] = {
        "killed": failure,
        "times": len(repetitions),
        "streams": len(gaps),
        "gap_p50": round(statistics.median(gaps), 3),
        "gap_max": round(max(gaps), 3),
        "undisturbed_max": round(max(each.undisturbed for each in repetitions), 3),
    }
    if failure == "engine":
        beyond = [gap - each.reload for each in repetitions for gap in each.gaps]
        reloads = [each.reload for each in repetitions]
        row["reload_p50"] = round(statistics.median(reloads), 3)
        row["reload_max"] = round(max(reloads), 3)
        row["beyond_reload_p50"] = round(statistics.median(beyond), 3)
        row["beyond_reload_max"] = round(max(beyond), 3)
    return row


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder), 2, 2, ["--num-threads", "1", "--cache-gib", "0.25"])
        try:
            fleet.start()
            bench = Bench(fleet, options.streams)
            for failure in options.failures:
                repetitions = [
                    asyncio.run(bench.repeat(failure)) for _ in range(options.repetitions)
                ]
                rows.append(summary(failure, repetitions))
                print(json.dumps(rows[-1]), flush=True)
        finally:
            fleet.stop()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=8)
    parser.add_argument("--streams", type=int, default=8, help="callers at once")
    parser.add_argument("--failures", nargs="+", choices=FAILURES, default=FAILURES)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = measure(options)
    if options.output:
        result = {"machine": describe_machine(), "rows": rows}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
