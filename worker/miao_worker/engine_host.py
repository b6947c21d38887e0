"""The engine's process: takes commands from a pipe, steps, and sends what comes.

Started by EngineProcess and by nothing else. It ends when the pipe closes, so
it never outlives its worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from miao_queue.telemetry import logs
from miao_queue.telemetry.logs import LogSettings
from miao_worker import prctl
from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.protocol import EngineSettings, ServingEngine
from miao_worker.engine.types import EngineStats, SequenceOutput, StepOutput
from miao_worker.engine_kinds import LoadedEngine, kind_of
from miao_worker.readiness import Readiness


@dataclass(frozen=True, slots=True)
class Add:
    """Run a sequence, or an encoder's request."""

    request: EngineRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take a sequence out of the batch."""

    sequence_id: str


@dataclass(frozen=True, slots=True)
class Register:
    """Learn of an adapter."""

    adapter_id: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Drop:
    """Let go of an adapter's memory when nothing uses it."""

    adapter_id: str


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to Register; `fault` says why the adapter is not served."""

    adapter_id: str
    fault: str | None


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer, to show that the engine goes on."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping; everything sent before it is done."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine has loaded its model; `card` is a serialized ModelCard."""

    card: bytes
    adapters: tuple[Registered, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine cannot load its model; the message is one sentence."""

    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a step brought, in the form that is cheap to send.

    Nearly all outputs are one token and nothing else: they go as ids and tokens.
    """

    sequence_ids: tuple[str, ...]
    token_ids: tuple[int, ...]  # one for each
    others: tuple[SequenceOutput, ...]
    stats: EngineStats
    seconds: float

    @classmethod
    def of(cls, step: StepOutput, seconds: float) -> Step:
        plain = [output for output in step.outputs if output.is_plain]
        others = () if len(plain) == len(step.outputs) else step.outputs
        return cls(
            tuple(output.sequence_id for output in plain),
            tuple(output.token_ids[0] for output in plain),
            tuple(output for output in others if not output.is_plain),
            step.stats,
            seconds,
        )

    def output(self) -> StepOutput:
        """It as the engine said it, but for the order of the sequences."""
        plain = zip(self.sequence_ids, self.token_ids, strict=True)
        outputs = [SequenceOutput(sequence_id, (token,)) for sequence_id, token in plain]
        return StepOutput((*outputs, *self.others), self.stats, self.seconds)


Command = Add | Cancel | Register | Drop | Ping


def run(
    connection: Connection[object, Command],
    config: EngineSettings,
    model_name: str,
    adapters: Mapping[str, Path],
    log_settings: LogSettings,
) -> None:
    """Load the model, then serve until the other side closes the pipe.

    adapters: those to begin with, the folder of each by its id.
    """
    prctl.set_name("miao-engine")
    logs.configure(log_settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group
    from miao_worker.engine.errors import ModelLoadError

    try:
        helpers = kind_of(config).start_helpers(config, connection)  # while no thread is here
        threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
        engine, card = _load(config, model_name, helpers)
    except ModelLoadError as error:
        connection.send(Failed(str(error)))
        return
    registered = tuple(_register(engine, Register(*each)) for each in adapters.items())
    connection.send(Ready(card.SerializeToString(), registered))
    commands = Readiness(connection)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            while commands.wait(0 if engine.has_unfinished else None):
                command = connection.recv()
                match command:
                    case Ping():
                        connection.send(Pong())
                    case Register():
                        connection.send(_register(engine, command))
                    case _:
                        _obey(engine, command)
            started = time.perf_counter()
            step = engine.step()
            connection.send(Step.of(step, time.perf_counter() - started))


def _register(engine: ServingEngine, command: Register) -> Registered:
    from miao_worker.engine.errors import AdapterError

    try:
        engine.register_adapter(command.adapter_id, command.folder)
    except AdapterError as error:
        return Registered(command.adapter_id, str(error))
    return Registered(command.adapter_id, None)


def _load(config: EngineSettings, model_name: str, helpers: object) -> LoadedEngine:
    return kind_of(config).load(config, model_name, helpers)


def _obey(engine: ServingEngine, command: Add | Cancel | Drop) -> None:
    match command:
        case Add(request):
            engine.add(request)
        case Cancel(sequence_id):
            engine.cancel(sequence_id)
        case Drop(adapter_id):
            engine.drop_adapter(adapter_id)


def _end_with_parent() -> None:
    """Leave at once when the worker dies, even from the midst of a long step."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
