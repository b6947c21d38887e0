"""Workers that are there in a second: forked from a process that has their imports.

But for that they are what `python -m miao_worker` is, in a session of their own: a worker with
a fork server of its own, from which its engines come. The tests of the stack start the program.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, util
from multiprocessing.connection import wait
from pathlib import Path
from unittest import mock

from miao_worker import cli
from miao_worker.stack import Stack, _Part

Main = Callable[[list[str]], int]

PRELOADED = ["miao_worker.engine_preload", "miao_worker.cli", "miao_worker.batch_worker"]


class ForkedWorker:
    """A worker's process, with so much of `subprocess.Popen` as tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        main: Main = cli.main,
        environ: Mapping[str, str] = {},
    ) -> None:
        log.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        given = (main, list(arguments), log, os.environ | environ)
        self._process = context.Process(target=_run, args=given, name="worker")
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def kill_group(self) -> None:
        """End it with its engine, whatever state they are in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()  # where it has just begun
        self.wait()


class ForkingStack(Stack):
    """A stack whose workers are forked."""

    def _spawn(self, name: str, command: Sequence[str]) -> _Part:
        if name != "worker":
            return super()._spawn(name, command)
        log = self._folder / f"{name}-{len(self._parts)}.log"
        arguments = command[command.index("miao_worker") + 1 :]
        environ = {"MIAO_LOG_FORMAT": os.environ.get("MIAO_LOG_FORMAT", "console")}
        part = _Part(name, ForkedWorker(arguments, log, environ=environ), log)  # type: ignore[arg-type]
        self._parts.append(part)
        return part


def _run(main: Main, arguments: list[str], log: Path, environ: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    forkserver.set_forkserver_preload([])  # all is here
    with mock.patch.object(util, "spawnv_passfds", _fork):
        forkserver.ensure_running()
    threading.Thread(target=_end_with_tests, daemon=True).start()
    sys.exit(main(arguments))


def _end_with_tests() -> None:
    """Leave nothing behind when the tests' own process dies."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


def _fork(_: str, command: list[str], fds: list[int]) -> int:
    """In place of multiprocessing's own, which starts Python anew for the same command."""
    if pid := os.fork():
        return pid
    try:
        for number in [int(fd.name) for fd in Path("/proc/self/fd").iterdir()]:
            if number > 2 and number not in fds:
                with contextlib.suppress(OSError):
                    os.close(number)
        exec(command[-1], {})
    finally:
        os._exit(0)
