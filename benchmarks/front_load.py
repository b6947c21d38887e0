"""Where a front is at its end, and where two are: tokens a second and streams.

    python benchmarks/front_load.py --output benchmarks/results/front-load.json

The worker's part is played (front_relay.py): it writes an event of one token to every
stream, step after step, as fast as Redis takes them, so the fronts always have more to
relay than they can. Callers read in processes of their own, half of them at each front.

A front's callers, Redis and the worker need more of a machine than the front does: on two
cores they would be the limit, not the front. So each front is also given a share of a core
(it is stopped for the rest of every 20 ms), and has to be the limit; what it really got is
measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from front_relay import PlayedWorker, read_streams, started
from machine import describe_machine
from redis import Redis

from miao_queue import connection
from miao_worker.stack import redis_program

STREAMS = (32, 256, 1024)
EVENTS = {None: 60_000, 0.25: 25_000}  # of each run and front, by the share of a core
PERIOD_SECONDS = 0.02


class Share(threading.Thread):
    """Lets processes run for a part of each period."""

    def __init__(self, fronts: list[psutil.Process], share: float) -> None:
        super().__init__(daemon=True)
        self._fronts, self._share = fronts, share
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            self._tell(signal.SIGCONT)
            time.sleep(PERIOD_SECONDS * self._share)
            self._tell(signal.SIGSTOP)
            time.sleep(PERIOD_SECONDS * (1 - self._share))
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        for front in self._fronts:
            front.send_signal(number)


@contextmanager
def limited(fronts: list[psutil.Process], share: float | None) -> Iterator[None]:
    if share is None:
        yield
        return
    thread = Share(fronts, share)
    thread.start()
    try:
        yield
    finally:
        thread.over.set()
        thread.join()


def measure(
    worker: PlayedWorker,
    fronts: list[tuple[psutil.Process, int]],
    streams: int,
    share: float | None,
) -> dict[str, Any]:
    """`streams` is of all fronts together."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    callers = [
        context.Process(target=read_streams, args=(port, streams // len(fronts), results))
        for _, port in fronts
    ]
    for caller in callers:
        caller.start()
    worker.claim(streams)
    time.sleep(0.5)  # the last answers to submissions
    processes = [process for process, _ in fronts]
    before, began = list(map(_cpu, processes)), time.monotonic()
    with limited(processes, share):
        for _ in range(max(8, EVENTS[share] * len(fronts) // streams)):
            worker.step()
        worker.finish()
        written = time.monotonic() - began
        count = sum(results.get(timeout=240)[0] for _ in callers)
        seconds = time.monotonic() - began
    used = [after - then for after, then in zip(map(_cpu, processes), before, strict=True)]
    for caller in callers:
        caller.join()
    return {
        "fronts": len(fronts),
        "share_of_a_core": share,
        "streams": streams,
        "tokens_per_second": round(count / seconds),
        "written_per_second": round(count / written),
        "cores_used": [round(each / seconds, 2) for each in used],
        "front_us_per_token": round(1e6 * sum(used) / count, 1),
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--redis-port", type=int, default=16393)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    url = f"redis://127.0.0.1:{options.redis_port}/0"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        redis = [redis_program(), "--port", str(options.redis_port), "--dir", folder]
        redis += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        stack.enter_context(started(redis, stdout=subprocess.DEVNULL))
        connection.wait_until_ready(Redis.from_url(url, retry=None), 10)
        worker = PlayedWorker(url)
        fronts = [_front(stack, url) for _ in range(2)]
        rows = []
        for share in EVENTS:
            for streams in STREAMS:
                for count in (1, 2):
                    rows.append(measure(worker, fronts[:count], streams, share))
                    print(json.dumps(rows[-1]), flush=True)
    if options.output:
        result = {"machine": describe_machine(), "rows": rows}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


def _front(stack: ExitStack, url: str) -> tuple[psutil.Process, int]:
    command = [sys.executable, "-m", "miao_service", "--listen", "127.0.0.1:0"]
    command += ["--redis-url", url, "--backlog-limit", "100000", "--log-level", "warning"]
    process = stack.enter_context(started(command, stdout=subprocess.PIPE))
    assert process.stdout is not None
    return psutil.Process(process.pid), int(process.stdout.readline().rsplit(":", 1)[1])


if __name__ == "__main__":
    main()
