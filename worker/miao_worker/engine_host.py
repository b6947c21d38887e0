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
from typing import TYPE_CHECKING

from miao.internal.v1.queue_pb2 import ModelCard
from miao_queue.telemetry import logs
from miao_queue.telemetry.logs import LogSettings
from miao_worker import prctl
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.types import EngineStats, SequenceOutput, StepOutput
from miao_worker.readiness import Readiness

if TYPE_CHECKING:
    from miao_worker.engine.engine import Engine
    from miao_worker.engine.explain.engine import ExplainingEngine, InnerEngine
    from miao_worker.engine.tensor_parallel.ranks import Ranks


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
    config: EngineConfig,
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
    from miao_worker.engine.tensor_parallel.loading import fork_ranks

    try:
        ranks = fork_ranks(config, connection)  # while there is no other thread
        threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
        engine, card = _load(config, model_name, ranks)
    except ModelLoadError as error:
        connection.send(Failed(str(error)))
        return
    registered = tuple(_register(engine.inner, Register(*each)) for each in adapters.items())
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
                        connection.send(_register(engine.inner, command))
                    case _:
                        _obey(engine, command)
            started = time.perf_counter()
            step = engine.step()
            connection.send(Step.of(step, time.perf_counter() - started))


def _follow_grammars(engine: Engine, card: ModelCard) -> str:
    """Let the engine follow grammars; why it cannot with this model, or nothing."""
    from miao_worker.engine.guidance.vocabulary import VocabularyError

    try:
        engine.follow_grammars(card.tokenizer_json, card.eos_token_ids)
    except VocabularyError as error:
        return str(error)
    return ""


def _register(engine: InnerEngine, command: Register) -> Registered:
    from miao_worker.engine.engine import Engine
    from miao_worker.engine.errors import AdapterError

    if not isinstance(engine, Engine):
        return Registered(command.adapter_id, "adapters are for models that generate")
    try:
        engine.register_adapter(command.adapter_id, command.folder)
    except AdapterError as error:
        return Registered(command.adapter_id, str(error))
    return Registered(command.adapter_id, None)


def _load(
    config: EngineConfig, model_name: str, ranks: Ranks | None
) -> tuple[ExplainingEngine, ModelCard]:
    """The engine for the model's task, and the model's card. Raises ModelLoadError."""
    from miao_worker.encoder_card import build_encoder_card
    from miao_worker.engine.encoder.engine import load_engine
    from miao_worker.engine.encoder.tasks import encoder_task
    from miao_worker.engine.engine import Engine
    from miao_worker.engine.explain.loading import explain_classification, explain_generation
    from miao_worker.engine.tensor_parallel.checks import check_task
    from miao_worker.engine.tensor_parallel.loading import load_leader
    from miao_worker.model_card import build_model_card, check_draft_vocabulary

    task = encoder_task(config)
    if task is not None:
        check_task(config, task.value)
        encoder, runner = load_engine(config, task)
        explaining = explain_classification(encoder, runner, config)
        card = build_encoder_card(model_name, config, runner)
        return explaining, _with_methods(card, explaining)
    if config.draft_model is not None:
        check_draft_vocabulary(config.model, config.draft_model)
    engine = Engine(config, None if ranks is None else load_leader(config, ranks))
    card = build_model_card(model_name, config.model, engine)
    card.guide_fault = _follow_grammars(engine, card)
    explaining = explain_generation(engine, config)
    return explaining, _with_methods(card, explaining)


def _with_methods(card: ModelCard, engine: ExplainingEngine) -> ModelCard:
    """The card, with how answers can be explained."""
    from miao_worker.explanation_execution import METHODS

    card.explain_methods.extend(
        number for number, method in METHODS.items() if method in engine.methods
    )
    return card


def _obey(engine: ExplainingEngine, command: Add | Cancel | Drop) -> None:
    from miao_worker.engine.engine import Engine

    match command:
        case Add(request):
            engine.add(request)
        case Cancel(sequence_id):
            engine.cancel(sequence_id)
        case Drop(adapter_id) if isinstance(engine.inner, Engine):
            engine.inner.drop_adapter(adapter_id)


def _end_with_parent() -> None:
    """Leave at once when the worker dies, even from the midst of a long step."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
