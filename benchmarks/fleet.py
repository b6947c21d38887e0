"""A whole fleet on this machine, whose parts a benchmark may kill and start again."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
from redis import Redis

from miao_queue import connection
from miao_worker.stack import redis_program

_START_SECONDS = 120.0
_POLL_SECONDS = 0.01

# Linux then ends the program with the thread that started it. Set by a program in between:
# what subprocess runs between fork and exec does harm beside gRPC's threads.
_LAUNCH = (
    "import os, sys; from miao_worker import prctl; prctl.end_with_parent(); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Part:
    """A program that may die and start again; what it prints is kept."""

    def __init__(self, name: str, command: list[str], folder: Path, ready: str) -> None:
        self.log = folder / f"{name}.log"
        self._command = command
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, from a thread that stays; its log begins anew."""
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, *self._command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def wait_ready(self) -> None:
        """Wait until it says that it serves."""
        self.wait_for(re.escape(self._ready), 1, _START_SECONDS)

    def wait_for(self, pattern: str, count: int, seconds: float) -> list[str]:
        """The lines of its log that match, once there are so many."""
        deadline = time.monotonic() + seconds
        while True:
            lines = self.log.read_text("utf-8", "replace").splitlines()
            found = [line for line in lines if re.search(pattern, line)]
            if len(found) >= count:
                return found
            assert self._process is not None
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.log.stem} ({ended}) does not say {pattern!r}: {lines}")
            time.sleep(_POLL_SECONDS)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal and wait for the end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()

    def engine(self) -> psutil.Process:
        """A worker's engine."""
        children = psutil.Process(self.pid).children(recursive=True)
        return next(child for child in children if child.name() == "miao-engine")


class Fleet:
    """A Redis with an append-only file, fronts and workers, all with their defaults."""

    def __init__(
        self,
        folder: Path,
        fronts: int,
        workers: int,
        worker_options: list[str],
        worker_program: list[str] | None = None,
    ) -> None:
        """`worker_program`: another one in place of miao_worker, with its options."""
        port, *ports = [free_port() for _ in range(1 + fronts)]
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        self.targets = [f"127.0.0.1:{each}" for each in ports]
        redis = [redis_program(), "--port", str(port), "--dir", str(folder), "--save", ""]
        redis += ["--bind", "127.0.0.1", "--appendonly", "yes"]
        redis += ["--set-proc-title", "no"]  # keeps its environment readable from outside
        self.redis = Part("redis", redis, folder, "Ready to accept connections")
        common = ["--redis-url", self.redis_url]
        front = [*_module("miao_service"), *common, "--listen"]
        self.fronts = [
            Part(f"front-{i}", [*front, target], folder, "front listening on ")
            for i, target in enumerate(self.targets)
        ]
        program = _module("miao_worker") if worker_program is None else worker_program
        worker = [*program, *common, *worker_options]
        self.workers = [
            Part(f"worker-{i}", worker, folder, "worker serving ") for i in range(workers)
        ]

    def start(self) -> None:
        """Start everything and wait until it serves."""
        self.redis.start()
        with Redis.from_url(self.redis_url, retry=None) as client:
            connection.wait_until_ready(client, _START_SECONDS)
        parts = [*self.fronts, *self.workers]
        for part in parts:
            part.start()
        for part in parts:
            part.wait_ready()

    def stop(self) -> None:
        """End everything, Redis last."""
        for part in [*self.fronts, *self.workers, self.redis]:
            part.end(signal.SIGTERM)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
