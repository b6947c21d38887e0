"""The fleet: one Valkey with an append-only file, fronts and workers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from ..conftest import free_port, redis_program
from .process import HERE, FleetError, Host, Process

_WORKER_OPTIONS = (
    *("--dtype", "float32", "--device", "cpu", "--num-threads", "1", "--cache-gib", "0.1"),
    *("--step-timeout-seconds", "5", "--drain-seconds", "2"),
)
# Every other worker speculates: a generation that moves between the two kinds goes on unchanged.
_SPECULATION = ("--speculate", "ngram", "--num-speculative-tokens", "4")
_FRONT_ENVIRON = {"MIAO_DRAIN_SECONDS": "2", "MIAO_RETENTION_SECONDS": "900"}
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What to start, and where its logs and data go.

    max_sequences: in one worker's batch; enough to take all from another that died.
    appendfsync: "always" loses nothing that was acknowledged.
    worker_kind: how workers are started.
    redis_host, front_hosts, worker_hosts: where each runs; a host for each front, and workers
        in turns.
    """

    folder: Path
    num_workers: int = 2
    max_sequences: int = 32
    appendfsync: str = "always"
    front_environ: Mapping[str, str] = field(default_factory=lambda: dict(_FRONT_ENVIRON))
    worker_kind: type[Process] = Process
    redis_host: Host = HERE
    front_hosts: Sequence[Host] = (HERE, HERE)
    worker_hosts: Sequence[Host] = (HERE,)
    model_name: str = "miao-tiny"


class Fleet:
    """Starts everything, replaces what died, stops what is left.

    `workers` and `fronts` are slots: another process may stand in one later.
    """

    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        port = free_port()
        self.redis_url = f"redis://{settings.redis_host.address}:{port}/0"
        self.redis = self._redis(port)
        self.targets = [f"{host.address}:{free_port()}" for host in settings.front_hosts]
        self.fronts = [
            self._front(number, target, host)
            for number, (target, host) in enumerate(
                zip(self.targets, settings.front_hosts, strict=True)
            )
        ]
        self.workers_made: list[Process] = []
        self.workers = [self.make_worker() for _ in range(settings.num_workers)]
        self._replaced: list[Process] = []

    @property
    def processes(self) -> list[Process]:
        """All that should serve now."""
        return [self.redis, *self.fronts, *self.workers]

    async def start(self) -> None:
        """Start everything and wait until it serves."""
        self.redis.start()
        await self.wait_redis()
        for process in (*self.fronts, *self.workers):
            process.start()
        await asyncio.gather(*(p.wait_ready() for p in (*self.fronts, *self.workers)))

    async def wait_redis(self, timeout_seconds: float = 60.0) -> None:
        """Wait until Valkey answers and has read its file."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        with Redis.from_url(self.redis_url, retry=None, socket_timeout=1) as client:
            while not _answers(client):
                if not self.redis.runs:
                    raise FleetError(f"Valkey ended:\n{self.redis.tail()}")
                if asyncio.get_running_loop().time() > deadline:
                    raise FleetError(f"Valkey does not answer:\n{self.redis.tail()}")
                await asyncio.sleep(0.02)

    def make_worker(self, host: Host | None = None) -> Process:
        """Another worker, not started and in no slot; on this host, or the next one's turn."""
        hosts = self._settings.worker_hosts
        number = len(self.workers_made)
        host = host or hosts[number % len(hosts)]
        kind = _SPECULATION if number % 2 else ()
        command = [*_module("miao_worker"), "--redis-url", self.redis_url]
        worker = self._settings.worker_kind(
            f"worker-{number}",
            [
                *(*command, *_WORKER_OPTIONS, *kind),
                *("--max-sequences", str(self._settings.max_sequences)),
                *("--name", self._settings.model_name),
            ],
            self._settings.folder,
            "worker serving ",
            {"HF_HUB_OFFLINE": "1"},
            host,
        )
        self.workers_made.append(worker)
        return worker

    def replace_worker(self, slot: int, worker: Process) -> Process:
        """Put a worker into a slot; returns the one that stood there."""
        old, self.workers[slot] = self.workers[slot], worker
        self._replaced.append(old)
        return old

    def ended_unasked(self) -> list[Process]:
        """Those that have ended though nobody told them to."""
        return [p for p in self.processes if p.status is not None and not p.meant_to_end]

    async def stop(self) -> None:
        """End everything: fronts and workers in their own way, Valkey last."""
        parts = [*self.fronts, *self.workers, *self._replaced]
        for group, number in ((parts, signal.SIGTERM), ([self.redis], signal.SIGTERM)):
            for process in group:
                if process.runs:
                    process.signal(signal.SIGCONT)
                    process.signal(number)
            for process in group:
                await _end(process)

    def aof_bytes(self) -> int:
        """The length of the part of its file that Valkey writes to."""
        return self._aof().stat().st_size

    def cut_aof(self, length: int) -> int:
        """Cut Valkey's file to this length, while it is down; returns how many bytes went."""
        aof = self._aof()
        lost = max(0, aof.stat().st_size - length)
        os.truncate(aof, aof.stat().st_size - lost)
        return lost

    def _aof(self) -> Path:
        parts = (self._settings.folder / "valkey").glob("appendonlydir/*.incr.aof")
        return max(parts, key=lambda part: part.stat().st_mtime)

    def remove_data(self) -> None:
        """Remove Valkey's files; logs stay."""
        shutil.rmtree(self._settings.folder / "valkey", ignore_errors=True)

    def _redis(self, port: int) -> Process:
        data = self._settings.folder / "valkey"
        data.mkdir(parents=True, exist_ok=True)
        host = self._settings.redis_host
        command = [redis_program(), "--port", str(port), "--bind", host.address, "--save", ""]
        command += ["--dir", str(data), "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        command += ["--appendfsync", self._settings.appendfsync, "--protected-mode", "no"]
        return Process("valkey", command, self._settings.folder, "Ready to accept", host=host)

    def _front(self, number: int, target: str, host: Host) -> Process:
        command = [*_module("miao_service"), "--redis-url", self.redis_url, "--listen", target]
        environ = self._settings.front_environ
        ready = "front listening on "
        return Process(f"front-{number}", command, self._settings.folder, ready, environ, host)


async def _end(process: Process) -> None:
    try:
        await process.wait_ended(_STOP_SECONDS)
    except FleetError:
        process.signal(signal.SIGKILL)
        await process.wait_ended()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]
