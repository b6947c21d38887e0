"""One program of the fleet: started, signalled, and known by its own lines."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from miao_worker import cli
from tests.forked_worker import ForkedWorker, Main

_POLL_SECONDS = 0.05

# Linux kills the program when the thread that started it ends, however that ends. Set by
# a program in between: Python code after fork() is not safe beside gRPC's threads.
_LAUNCH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)


class FleetError(Exception):
    """A program of the fleet does not do what it is told; the message says which."""


class Host:
    """Where programs run: this machine, unless a subclass says another place."""

    address = "127.0.0.1"

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs this one there; its first word is a path."""
        return list(command)

    @property
    def worker_main(self) -> Main:
        """What a forked worker calls with its arguments to be one there."""
        return cli.main


HERE = Host()


class Process:
    """A program that writes into a log of its own; `start` it again after it ended.

    Start it from the main thread: it dies with the thread that started it.

    Args:
        name: of the log, too.
        command: the program and its arguments.
        ready: how the line begins with which it says that it serves.
        host: where it runs.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        ready: str,
        environ: Mapping[str, str] = {},
        host: Host = HERE,
    ) -> None:
        self.name = name
        self.host = host
        self.log = folder / f"{name}.log"
        self.meant_to_end = False
        self._command = list(command)
        self._ready = ready
        self._environ = os.environ | {"PYTHONUNBUFFERED": "1", **environ}
        self._popen: subprocess.Popen[bytes] | ForkedWorker | None = None
        self._log_start = 0

    def start(self) -> None:
        """Start the program; `wait_ready` says when it serves."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCH, *self.host.command(self._command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environ,
            )
        self.meant_to_end = False

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    @property
    def runs(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that ends it is remembered as meant."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.meant_to_end = True
        assert self._popen is not None
        self._popen.send_signal(number)

    def said_ready(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode("utf-8", "replace").splitlines()
        return any(self._ready in line for line in lines)

    async def wait_ready(self, timeout_seconds: float = 120.0) -> None:
        """Wait for its line; FleetError if it ends or takes too long."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not self.said_ready():
            if not self.runs:
                raise FleetError(f"{self.name} ended with {self.status}:\n{self.tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise FleetError(f"{self.name} is not ready:\n{self.tail()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def wait_ended(self, timeout_seconds: float = 60.0) -> None:
        """Wait for its end; FleetError if it takes too long."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self.runs:
            if asyncio.get_running_loop().time() > deadline:
                raise FleetError(f"{self.name} does not end:\n{self.tail()}")
            await asyncio.sleep(_POLL_SECONDS)

    def engine(self) -> psutil.Process | None:
        """A worker's engine: of its descendants without children the largest with threads.

        A process that serves forks or tracks resources has one thread only.
        """
        try:
            found = psutil.Process(self.pid).children(recursive=True)
            leaves = [p for p in found if not p.children() and p.num_threads() > 1]
            return max(leaves, key=lambda p: int(p.memory_info().rss), default=None)
        except psutil.NoSuchProcess:
            return None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])


class ForkedProcess(Process):
    """A worker that is there at once; its command is the program and its arguments."""

    def start(self) -> None:
        """Fork the worker; `wait_ready` says when it serves."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        arguments = self._command[self._command.index("miao_worker") + 1 :]
        self._popen = ForkedWorker(
            arguments, self.log, self.host.worker_main, environ=self._environ
        )
        self.meant_to_end = False
