"""The engine's process: takes commands from a pipe, steps, and sends what comes.

Started by EngineProcess and by nothing else. It ends when the pipe closes, so
it never outlives its worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from miao_worker import prctl
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.types import SequenceRequest

if TYPE_CHECKING:
    from miao.internal.v1.queue_pb2 import ModelCard
    from miao_worker.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Add:
    """Run a sequence."""

    request: SequenceRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take a sequence out of the batch."""

    sequence_id: str


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


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine cannot load its model; the message is one sentence."""

    message: str


Command = Add | Cancel | Ping


def run(connection: Connection[object, Command], config: EngineConfig, model_name: str) -> None:
    """Load the model, then serve until the other side closes the pipe."""
    prctl.set_name("miao-engine")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    from miao_worker.engine.engine import Engine
    from miao_worker.engine.errors import ModelLoadError
    from miao_worker.model_card import build_model_card, check_draft_vocabulary

    try:
        if config.draft_model is not None:
            check_draft_vocabulary(config.model, config.draft_model)
        engine = Engine(config)
        card = build_model_card(model_name, config.model, engine)
        card.guide_fault = _follow_grammars(engine, card)
    except ModelLoadError as error:
        connection.send(Failed(str(error)))
        return
    connection.send(Ready(card.SerializeToString()))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            while connection.poll(0 if engine.has_unfinished else None):
                command = connection.recv()
                if isinstance(command, Ping):
                    connection.send(Pong())
                else:
                    _obey(engine, command)
            connection.send(engine.step())


def _follow_grammars(engine: Engine, card: ModelCard) -> str:
    """Let the engine follow grammars; why it cannot with this model, or nothing."""
    from miao_worker.engine.guidance.vocabulary import VocabularyError

    try:
        engine.follow_grammars(card.tokenizer_json, card.eos_token_ids)
    except VocabularyError as error:
        return str(error)
    return ""


def _obey(engine: object, command: Add | Cancel) -> None:
    from miao_worker.engine.engine import Engine

    assert isinstance(engine, Engine)
    match command:
        case Add(request):
            engine.add(request)
        case Cancel(sequence_id):
            engine.cancel(sequence_id)


def _end_with_parent() -> None:
    """Leave at once when the worker dies, even from the midst of a long step."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
