"""A worker: one engine, and for each Redis that it follows a `BatchWorker` of RQ's kind.

With one Redis its threads are this one, which claims, a runner's and a keeper's. With several
each Redis has such three, so that one that is silent holds up nothing but its own, and the hub's.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from miao.internal.v1.queue_pb2 import ModelCard
from miao_worker.adapter_folders import AdapterFolders
from miao_worker.adapter_watch import AdapterWatch
from miao_worker.batch_worker import BatchWorker
from miao_worker.engine.errors import ModelLoadError
from miao_worker.health import WorkerHealth
from miao_worker.metrics import WorkerMetrics
from miao_worker.served_models import ServedModels
from miao_worker.settings import WorkerSettings
from miao_worker.shared_engine import SharedEngine
from miao_worker.tool_formats import set_tool_format

_log = logging.getLogger(__name__)

_BEGIN_SECONDS = 30.0  # in which one of several Redis has to answer
_AGAIN_SECONDS = 1.0
_LEAVE_SECONDS = 10.0  # for a Redis that does not answer to hear that this worker goes


class Worker:
    """Serves a model to all Redis that it follows."""

    def __init__(
        self,
        settings: WorkerSettings,
        connections: Sequence[tuple[str, Redis]],
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`connections`: to each Redis, with its name."""
        self.metrics = WorkerMetrics(settings.model_name)
        self.health = WorkerHealth()
        self._settings = settings
        self._on_ready = on_ready
        self._shared = SharedEngine(settings, self.metrics, self.health, len(connections))
        self._connections = connections
        self._sides: list[BatchWorker] = []  # those whose Redis has answered
        self._num_drained = 0
        self._drained = threading.Lock()
        self._folders = AdapterFolders(settings.adapters, settings.adapter_folder)
        self._watch: AdapterWatch
        self._has_begun = threading.Event()  # at one Redis at least
        self._may_leave = threading.Event()  # nothing comes any more

    def work(self) -> None:
        """Work until told to stop. Raises ModelLoadError if the engine cannot (re)start."""
        card = self._start_engine()
        if len(self._connections) == 1:
            self._work_for_one(self._connections[0][1], card)
        else:
            self._work_for_several(card)
        if self._shared.lost is not None:
            raise self._shared.lost

    def _start_engine(self) -> ModelCard:
        engine = self._shared.engine
        self._adapters = self._folders.look() if self._settings.engine.max_adapters else {}
        for source in self._adapters.values():
            engine.register(source.adapter_id, source.folder)
        card = engine.start()
        set_tool_format(card, self._settings.tool_format)
        self._shared.served = ServedModels(card)
        ttl_ms = 2 * self._settings.lease_ms
        self._watch = AdapterWatch(
            self._folders, engine, self._shared.served, self._shared.presence, ttl_ms
        )
        return card

    def _begin_serving(self) -> list[threading.Thread]:
        """Announce the adapters; whoever probes, or waits for the start, hears that all is well."""
        threads = []
        if self._settings.engine.max_adapters:
            threads.append(threading.Thread(target=self._watch.run, name="adapters"))
        self._install_signal_handlers()
        for thread in threads:
            thread.start()
        self.health.serve(
            lambda: not self._shared.is_stopping and any(side.is_known for side in self._sides)
        )
        return threads

    def _work_for_one(self, connection: Redis, card: ModelCard) -> None:
        side = BatchWorker(self._settings, connection, self._shared)
        self._sides.append(side)
        side.assemble(card)
        self._watch.begin(self._adapters, set(self._settings.adapters))
        side.begin()
        threads = self._begin_serving()
        self._on_ready()
        try:
            side.loop()
            self._watch.stop()
            side.drain()
        finally:
            self._watch.stop()
            side.stop()
            for thread in threads:
                thread.join()
            side.hand_over()
            self._shared.engine.kill()
            side.leave()

    def _work_for_several(self, card: ModelCard) -> None:
        self._watch.begin(self._adapters, set(self._settings.adapters))
        threads = self._begin_serving()
        hub = threading.Thread(target=self._run_hub, name="hub")
        hub.start()
        # Daemons: what a Redis that is silent holds up does not hold up our end.
        sides = [
            threading.Thread(target=self._run_side, args=(*named, card), daemon=True, name=named[0])
            for named in self._connections
        ]
        for thread in sides:
            thread.start()
        try:
            self._await_begin()
            self._on_ready()
            while not self._shared.is_stopping:
                time.sleep(0.05)
            self._watch.stop()
            self._await_drained()
        finally:
            self._shared.stop_requests += 2
            self._watch.stop()
            assert self._shared.hub is not None
            self._shared.hub.stop()
            for thread in [*threads, hub]:
                thread.join()
            self._may_leave.set()
            self._shared.engine.kill()
            deadline = time.monotonic() + _LEAVE_SECONDS
            for thread in sides:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _await_begin(self) -> None:
        deadline = time.monotonic() + _BEGIN_SECONDS
        while not self._has_begun.wait(0.05):
            if self._shared.is_stopping:
                return
            if time.monotonic() > deadline:
                raise RedisConnectionError("none of them answers")

    def _await_drained(self) -> None:
        """Let all sides drain, but none for longer than it may."""
        deadline = time.monotonic() + self._settings.drain_seconds + 1
        while time.monotonic() < deadline and self._shared.lost is None:
            if self._shared.stop_requests > 1 or self._num_drained == len(self._connections):
                return
            time.sleep(0.02)

    def _run_side(self, name: str, connection: Redis, card: ModelCard) -> None:
        side: BatchWorker | None = None
        try:
            side = self._begin(name, connection, card)
            if side is not None:
                side.loop()
                side.drain()
        except Exception:
            _log.exception("what serves the Redis %s has failed", name)
            self._shared.lost = ModelLoadError("a part of the worker has failed; see the log")
        with self._drained:
            self._num_drained += 1
        self._may_leave.wait()
        if side is not None:
            side.stop()
            side.hand_over()
            side.leave()

    def _begin(self, name: str, connection: Redis, card: ModelCard) -> BatchWorker | None:
        """Begin as soon as its Redis answers; None where the worker stops before."""
        side: BatchWorker | None = None
        while not self._shared.is_stopping:
            try:
                side = side or BatchWorker(self._settings, connection, self._shared, name)
                side.assemble(card)
                side.begin()
            except RedisError as error:
                _log.warning("the Redis %s does not answer (%s)", name, type(error).__name__)
                time.sleep(_AGAIN_SECONDS)
            else:
                _log.info("serving the Redis %s", name)
                self._sides.append(side)
                self._has_begun.set()
                return side
        return None

    def _run_hub(self) -> None:
        assert self._shared.hub is not None
        try:
            self._shared.hub.run()
        except ModelLoadError as error:
            self._shared.lost = error
        except Exception:
            _log.exception("the worker's hub has failed")
            self._shared.lost = ModelLoadError("the worker's hub has failed; see the log")

    def _stop(self, signum: int, frame: object) -> None:
        """First signal: finish what runs. Second: hand it over at once."""
        self._shared.stop_requests += 1

    def _install_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._stop)
            signal.signal(signal.SIGTERM, self._stop)
