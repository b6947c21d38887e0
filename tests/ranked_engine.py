"""An engine of several ranks in a process of its own: ranks are forked before there is a thread."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.tensor_parallel.loading import fork_ranks, load_generating
from tests.forked_worker import PRELOADED

Script = Callable[..., Any]
"""Is given the engine and some arguments; what it returns comes back."""


def run_ranked(config: EngineConfig, script: Script, *arguments: object) -> Any:
    """What a script says of an engine at the first of the ranks. Raises ModelLoadError."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, config, script, arguments))
    process.start()
    theirs.close()
    try:
        said = ours.recv()
    finally:
        process.join()
    if isinstance(said, ModelLoadError):
        raise said
    assert not isinstance(said, str), said
    return said[0]


def _run(
    connection: Connection[Any, Any],
    config: EngineConfig,
    script: Script,
    arguments: tuple[object, ...],
) -> None:
    try:
        ranks = fork_ranks(config, connection)
        connection.send((script(load_generating(config, ranks), *arguments),))
    except ModelLoadError as error:
        connection.send(error)
    except BaseException:
        connection.send(traceback.format_exc())
