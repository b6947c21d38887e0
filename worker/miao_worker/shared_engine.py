"""What all Redis of one worker share: its engine, what it serves, whose turn it is, and its end."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from miao.internal.v1.queue_pb2 import ModelCard
from miao_queue.cards import Presence
from miao_worker.batch_hub import BatchHub, RunnerBatch
from miao_worker.claim_turns import ClaimTurns
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine_batch import EngineBatch, NoteCrashes
from miao_worker.engine_process import EngineProcess
from miao_worker.health import WorkerHealth
from miao_worker.metrics import WorkerMetrics
from miao_worker.served_models import ServedModels
from miao_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from miao_worker.generation_runner import GenerationRunner

_log = logging.getLogger(__name__)


class SharedEngine:
    """Made by the worker, used by a thread or some for each Redis."""

    served: ServedModels  # once the engine has started

    def __init__(
        self, settings: WorkerSettings, metrics: WorkerMetrics, health: WorkerHealth, count: int
    ) -> None:
        """`count`: of Redis."""
        self.metrics = metrics
        self.health = health
        self.engine = EngineProcess(
            settings.engine,
            settings.model_name,
            settings.step_timeout_seconds,
            metrics.note_steps,
            settings.logs,
        )
        self.runners: list[GenerationRunner] = []
        self.presence = SharedPresence()
        is_one = count == 1
        self.hub = None if is_one else BatchHub(self.engine, settings.max_crashes, metrics)
        self.turns = None if is_one else ClaimTurns()
        self.stop_requests = 0
        self.lost: ModelLoadError | None = None
        self._max_crashes = settings.max_crashes
        metrics.follow(lambda: self.num_running)

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is claimed."""
        return self.stop_requests > 0 or self.lost is not None

    @property
    def num_running(self) -> int:
        """Generations, of all Redis."""
        return sum(runner.num_running for runner in list(self.runners))

    def batch(self, note_crashes: NoteCrashes) -> RunnerBatch:
        """That in which a runner's generations run."""
        if self.hub is not None:
            return self.hub.lane(note_crashes)
        return EngineBatch(self.engine, self._max_crashes, note_crashes)

    def join(self, runner: GenerationRunner) -> None:
        """One more Redis is followed."""
        self.runners.append(runner)
        runner.all_runners = self.runners


class SharedPresence:
    """Announces what a worker serves to all Redis. One that does not answer hears of it later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cards: dict[str, ModelCard] = {}  # besides the base model's
        self._presences: list[Presence] = []

    def join(self, presence: Presence, ttl_ms: int) -> None:
        """Announce there too what is served by now, and what comes."""
        with self._lock:
            for card in self._cards.values():
                presence.add(card, ttl_ms)
            self._presences.append(presence)

    def add(self, card: ModelCard, ttl_ms: int) -> None:
        """Announce one more model."""
        with self._lock:
            self._cards[card.name] = card
            for presence in self._presences:
                try:
                    presence.add(card, ttl_ms)
                except RedisError as error:  # its next sign of life announces it
                    _log.warning("Redis does not answer (%s)", type(error).__name__)

    def remove(self, name: str) -> None:
        """Say that this worker takes no more of one model."""
        with self._lock:
            self._cards.pop(name, None)
            for presence in self._presences:
                try:
                    presence.remove(name)
                except RedisError as error:  # what it said ends by itself
                    _log.warning("Redis does not answer (%s)", type(error).__name__)
