"""The engines that a worker can have: how each is loaded, and in what surroundings.

A kind follows from the type of its settings, which the command line chose; nothing that
comes from Redis has a say. What takes long to import is imported by `load` and `preload`,
in the engine's own process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from miao.internal.v1.queue_pb2 import ModelCard
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.protocol import EngineSettings, ServingEngine
from miao_worker.vllm_engine import environment
from miao_worker.vllm_engine.config import VllmConfig

if TYPE_CHECKING:
    from miao_worker.engine.tensor_parallel.ranks import Ranks


class LoadedEngine(NamedTuple):
    """An engine that is warm, and what a front needs to know of its model."""

    engine: ServingEngine
    card: ModelCard


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One of the engines.

    start_helpers: starts the processes that compute with this one, which has no thread yet; they
        close what they inherit of its pipe. What it returns is for `load`.
    load: makes one of its settings and the model's name for callers; raises ModelLoadError.
    preload: the module that a process imports, once, before engines are forked from it.
    environ: what that process finds in its environment, where nobody has set it.
    """

    name: str
    start_helpers: Callable[[Any, Connection[Any, Any]], object]
    load: Callable[[Any, str, Any], LoadedEngine]
    preload: str
    environ: Mapping[str, str] = field(default_factory=dict)


def _fork_ranks(config: EngineConfig, connection: Connection[Any, Any]) -> object:
    from miao_worker.engine.tensor_parallel.loading import fork_ranks

    return fork_ranks(config, connection)


def _load_miao(config: EngineConfig, model_name: str, ranks: Ranks | None) -> LoadedEngine:
    from miao_worker.engine_loading import load

    return LoadedEngine(*load(config, model_name, ranks))


def _start_nothing(config: VllmConfig, connection: Connection[Any, Any]) -> None:
    """VLLM starts its own as it loads."""


def _load_vllm(config: VllmConfig, model_name: str, helpers: None) -> LoadedEngine:
    from miao_worker.vllm_engine.loading import load

    return LoadedEngine(*load(config, model_name))


MIAO = EngineKind(
    "miao",
    _fork_ranks,
    _load_miao,
    "miao_worker.engine_preload",
    # Read when torch is loaded. Threads that always spin between products take the
    # processors away from the worker and the front beside them; those that always
    # sleep are woken a hundred times a step. They spin for some 50 microseconds.
    {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"},
)
VLLM = EngineKind(
    "vllm", _start_nothing, _load_vllm, "miao_worker.vllm_engine.preload", environment.VARIABLES
)


def kind_of(settings: EngineSettings) -> EngineKind:
    """The engine that such settings are for."""
    return VLLM if isinstance(settings, VllmConfig) else MIAO
