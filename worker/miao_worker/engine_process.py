"""The worker's handle on its engine's process."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from miao.internal.v1.queue_pb2 import ModelCard
from miao_queue.telemetry.logs import LogSettings
from miao_worker import engine_host
from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.protocol import EngineSettings
from miao_worker.engine.types import EngineStats, StepOutput
from miao_worker.engine_host import (
    Add,
    Cancel,
    Command,
    Drop,
    Failed,
    Ping,
    Pong,
    Ready,
    Register,
    Registered,
    Step,
)
from miao_worker.engine_kinds import kind_of
from miao_worker.readiness import Readiness


class EngineDiedError(Exception):
    """The engine's process has ended or hangs; its sequences must be run again."""


_AS_USUAL = LogSettings()
_RELOAD_SECONDS = 10.0  # that a reload may take besides three times the first load's
_RELOAD_PAUSES = (0.1, 0.5, 2.0, 5.0)

_log = logging.getLogger(__name__)


class EngineProcess:
    """One engine in a process of its own; `start` it again after it died.

    Commands may come from any thread; `receive` from one alone. A command to a
    dead engine is dropped: `receive` tells of the death.
    """

    def __init__(
        self,
        config: EngineSettings,
        model_name: str,
        step_timeout_seconds: float,
        on_steps: Callable[[Sequence[StepOutput]], None] = lambda _: None,
        logs: LogSettings = _AS_USUAL,
    ) -> None:
        """`on_steps` is told of all steps that came, by whoever receives them."""
        self._config = config
        self._on_steps = on_steps
        self._logs = logs
        self._model_name = model_name
        self._step_timeout_seconds = step_timeout_seconds
        self._context = multiprocessing.get_context("forkserver")
        # What takes seconds to import is in a process that forks the engines, so that
        # another one is there in the time that the model takes to load.
        self._kind = kind_of(config)
        self._context.set_forkserver_preload([self._kind.preload])
        self._sending = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection[Command, object] | None = None
        self._readiness: Readiness | None = None
        self._adapters: dict[str, Path] = {}  # the folders, by id, of all that were registered
        self.answers: deque[Registered] = deque()  # about adapters
        self._last_step = 0.0
        self._load_seconds = 0.0
        self.has_answered = True
        self.stats = EngineStats()  # of the last step that was received

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> ModelCard:
        """Start the process and wait until its model is loaded; raises ModelLoadError."""
        began = time.monotonic()
        card = self._start(limit_seconds=None)
        self._load_seconds = time.monotonic() - began
        return card

    def restart(self) -> None:
        """Start an engine in place of one that died.

        What once has loaded will again, unless something passing is in the way: a
        load that fails or takes far longer than the first is tried again. Raises
        ModelLoadError when that does not help.
        """
        limit_seconds = _RELOAD_SECONDS + 3 * self._load_seconds
        for pause_seconds in _RELOAD_PAUSES:
            try:
                self._start(limit_seconds)
                return
            except ModelLoadError as error:
                _log.warning("the engine does not start: %s", error)
                time.sleep(pause_seconds)
        self._start(limit_seconds)

    def _start(self, limit_seconds: float | None) -> ModelCard:
        self.kill()
        adapters = dict(self._adapters)
        connection = self._spawn(adapters)
        try:
            if not connection.poll(limit_seconds):
                raise ModelLoadError(f"it has not loaded in {limit_seconds:.0f} s")
            reply = connection.recv()
        except ModelLoadError:
            self.kill()
            raise
        except (EOFError, OSError):
            status = self._exit_status()
            self.kill()
            raise ModelLoadError(
                f"the engine's process ended while it loaded {self._config.model} "
                f"(exit status {status}); is there enough memory?"
            ) from None
        if isinstance(reply, Failed):
            self.kill()
            raise ModelLoadError(reply.message)
        assert isinstance(reply, Ready)
        self.answers.extend(reply.adapters)
        with self._sending:
            self._connection = connection
        self._readiness = Readiness(connection)
        for adapter_id, folder in list(self._adapters.items()):
            if adapter_id not in adapters:  # it came as the engine started
                self._send(Register(adapter_id, folder))
        self._last_step = time.monotonic()
        self.has_answered = True
        return ModelCard.FromString(reply.card)

    def _spawn(self, adapters: dict[str, Path]) -> Connection[Command, object]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=engine_host.run,
            args=(theirs, self._config, self._model_name, adapters, self._logs),
            name="miao-engine",
            daemon=True,
        )
        for name, value in self._kind.environ.items():
            os.environ.setdefault(name, value)
        process.start()
        theirs.close()
        self._process = process
        return ours

    def _exit_status(self) -> int | None:
        if self._process is None:
            return None
        self._process.join(1.0)
        return self._process.exitcode

    def add(self, request: EngineRequest) -> None:
        """Run a sequence, or an encoder's request."""
        self._send(Add(request))

    def cancel(self, sequence_id: str) -> None:
        """Take a sequence out of the batch."""
        self._send(Cancel(sequence_id))

    def register(self, adapter_id: str, folder: Path) -> None:
        """Let the engine, and those after it, learn of an adapter; `answers` has what it says."""
        self._adapters[adapter_id] = folder
        self._send(Register(adapter_id, folder))

    def drop(self, adapter_id: str) -> None:
        """Let the engine give an adapter's memory back. What came before may still use it."""
        self._send(Drop(adapter_id))

    def ping(self) -> None:
        """Ask for a sign of life; `has_answered` tells when it has come."""
        self.has_answered = False
        self._send(Ping())

    def receive(self, timeout_seconds: float, *, is_busy: bool) -> list[StepOutput]:
        """All steps that have come; empty after the timeout.

        Raises EngineDiedError when the process has ended, or has had work or a
        ping for longer than its step timeout without bringing anything.
        """
        connection, readiness = self._connection, self._readiness
        if connection is None or readiness is None:
            raise EngineDiedError
        steps: list[StepOutput] = []
        try:
            while readiness.wait(0 if steps else timeout_seconds):
                reply = connection.recv()
                if isinstance(reply, Pong):
                    self.has_answered = True
                elif isinstance(reply, Registered):
                    self.answers.append(reply)
                else:
                    assert isinstance(reply, Step)
                    steps.append(reply.output())
                    self.stats = reply.stats
        except (EOFError, OSError) as error:
            if not steps:
                raise EngineDiedError from error
        self._on_steps(steps)
        self._watch(is_idle=bool(steps) or (self.has_answered and not is_busy))
        return steps

    def kill(self) -> None:
        """End the process at once."""
        with self._sending:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def _watch(self, *, is_idle: bool) -> None:
        now = time.monotonic()
        if is_idle:
            self._last_step = now
        elif now - self._last_step > self._step_timeout_seconds:
            raise EngineDiedError

    def _send(self, command: Command) -> None:
        with self._sending:
            if self._connection is None:
                return
            try:
                self._connection.send(command)
            except OSError:
                return  # it died; whoever receives will know
