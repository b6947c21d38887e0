"""Keeps what a worker serves in step with the adapters that lie in its folders."""

from __future__ import annotations

import logging
import threading

from redis.exceptions import RedisError

from miao_worker.adapter_folders import AdapterFolders, AdapterSource
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine_process import EngineProcess
from miao_worker.served_models import ServedModels
from miao_worker.shared_engine import SharedPresence

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 0.05


class AdapterWatch:
    """Registers what has come with the engine, and announces what the engine takes.

    One thread runs `run`. An adapter whose files change is another adapter of its
    name: what runs ends with the one that it began with.
    """

    def __init__(
        self,
        folders: AdapterFolders,
        engine: EngineProcess,
        served: ServedModels,
        presence: SharedPresence,
        ttl_ms: int,
    ) -> None:
        self._folders = folders
        self._engine = engine
        self._served = served
        self._presence = presence
        self._ttl_ms = ttl_ms
        self._sources: dict[str, AdapterSource] = {}  # by name: registered, as it lay there
        self._announced: dict[str, str] = {}  # the model's name by the adapter's
        self._answered: dict[str, str | None] = {}  # the engine's fault, by adapter id
        self._stopping = threading.Event()

    def begin(self, sources: dict[str, AdapterSource], required: set[str]) -> None:
        """Announce those that the engine has started with.

        Raises ModelLoadError where the engine refuses one of the required names.
        """
        self._sources = dict(sources)
        self._hear()
        for name in required:
            source = sources.get(name)
            fault = "has no files" if source is None else self._answered.get(source.adapter_id)
            if fault is not None:
                raise ModelLoadError(f"the adapter {name} is not served: {fault}")
        self._announce()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.wait(self._pause()):
            try:
                self._look()
            except RedisError as error:
                _log.warning("Redis does not answer (%s)", type(error).__name__)
            except OSError as error:
                _log.warning("the adapters cannot be read (%s)", type(error).__name__)

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()

    def _pause(self) -> float:
        is_asking = any(s.adapter_id not in self._answered for s in self._sources.values())
        return _ANSWER_SECONDS if is_asking else _LOOK_SECONDS

    def _look(self) -> None:
        found = self._folders.look()
        for name, source in list(self._sources.items()):
            if found.get(name) != source:
                self._withdraw(source)
        for name, source in found.items():
            if name not in self._sources:
                self._answered.pop(source.adapter_id, None)
                self._engine.register(source.adapter_id, source.folder)
                self._sources[name] = source
        self._hear()
        self._announce()

    def _hear(self) -> None:
        while self._engine.answers:
            answer = self._engine.answers.popleft()
            if answer.fault is not None and self._answered.get(answer.adapter_id) != answer.fault:
                _log.error("an adapter is not served: %s", answer.fault)
            self._answered[answer.adapter_id] = answer.fault

    def _announce(self) -> None:
        for name, source in self._sources.items():
            is_taken = self._answered.get(source.adapter_id, "not yet") is None
            if is_taken and name not in self._announced:
                card = self._served.add_adapter(name, source.adapter_id)
                self._presence.add(card, self._ttl_ms)
                self._announced[name] = card.name
                _log.info("serving %s", card.name)

    def _withdraw(self, source: AdapterSource) -> None:
        model = self._announced.get(source.name)
        if model is not None:
            self._served.remove(model)
            self._presence.remove(model)
            del self._announced[source.name]
            _log.info("no longer serving %s", model)
        del self._sources[source.name]
        if all(other.adapter_id != source.adapter_id for other in self._sources.values()):
            self._engine.drop(source.adapter_id)
