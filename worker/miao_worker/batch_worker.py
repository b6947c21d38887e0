"""The RQ worker that batches: many jobs at once in one engine, none forked.

Three threads: this one claims jobs and keeps RQ's books, the runner's publishes
tokens, the keeper's renews leases. This one sleeps in a read of two streams:
the model's bell, which rings for each queued job, and the worker's control.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError
from rq.command import parse_payload
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, WorkerStatus
from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import ModelCard
from miao_queue import fleet, keys
from miao_queue.cards import Presence
from miao_queue.claims import Claim, ClaimStore, RefusedJob, StaleJob, Suspended
from miao_queue.telemetry import logs
from miao_worker.adapter_folders import AdapterFolders
from miao_worker.adapter_watch import AdapterWatch
from miao_worker.attempt import AnyAttempt
from miao_worker.clock import RedisClock
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.protocol import EngineSettings
from miao_worker.engine.types import EngineStats
from miao_worker.engine_process import EngineProcess
from miao_worker.generation_runner import GenerationRunner
from miao_worker.health import WorkerHealth
from miao_worker.keeper import Keeper
from miao_worker.metrics import WorkerMetrics
from miao_worker.rq_bookkeeping import RqBookkeeping
from miao_worker.served_models import ServedModels
from miao_worker.settings import WorkerSettings
from miao_worker.tool_formats import set_tool_format
from miao_worker.worker_state import WorkerState

_log = logging.getLogger(__name__)

_BLOCK_MS = 500  # how long a wait for work may last; also how late a signal is seen
_HEARTBEAT_SECONDS = 10.0
_EXECUTION_TTL_SECONDS = 120
_CONTROL_TTL_MS = 600_000
_LISTEN_AGAIN_SECONDS = 1.0


class BatchWorker(BaseWorker):
    """An RQ worker whose one work horse is an engine."""

    def __init__(
        self,
        settings: WorkerSettings,
        connection: Redis,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            keys.queue_names(settings.model_name),
            name=settings.name,
            connection=connection,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self._settings = settings
        self._on_ready = on_ready
        self._claims = ClaimStore(connection, settings.name, settings.lease_ms, settings.protection)
        self.metrics = WorkerMetrics(settings.model_name)
        self.health = WorkerHealth()
        self._engine = EngineProcess(
            settings.engine,
            settings.model_name,
            settings.step_timeout_seconds,
            self.metrics.note_steps,
            settings.logs,
        )
        self._books = RqBookkeeping(self, connection)
        self._ended: deque[AnyAttempt] = deque()
        self._stopped_by_rq: set[str] = set()
        self._stop_requests = 0
        self._engine_lost: ModelLoadError | None = None
        self._logged_stats = EngineStats()
        self._last_seen: dict[Any, Any] = {
            keys.bell(settings.model_name): "0-0",
            keys.control(settings.name): "0-0",
        }
        self._served: ServedModels
        self._runner: GenerationRunner
        self._keeper: Keeper
        self._folders = AdapterFolders(settings.adapters, settings.adapter_folder)
        self._watch: AdapterWatch
        self._clock: RedisClock
        self._state_told: WorkerState

    def work(self, *_: Any, **__: Any) -> bool:
        """Work until told to stop. Raises ModelLoadError if the engine cannot (re)start."""
        adapters = self._folders.look() if self._settings.engine.max_adapters else {}
        for source in adapters.values():
            self._engine.register(source.adapter_id, source.folder)
        card = self._engine.start()
        set_tool_format(card, self._settings.tool_format)
        self._assemble(card)
        self._watch.begin(adapters, set(self._settings.adapters))
        self.register_birth()
        self.subscribe()
        self.set_state(WorkerStatus.IDLE)
        self._install_signal_handlers()
        threads = [
            threading.Thread(target=self._run_runner, name="runner"),
            threading.Thread(target=self._keeper.run, name="keeper"),
        ]
        if self._settings.engine.max_adapters:
            threads.append(threading.Thread(target=self._watch.run, name="adapters"))
        for thread in threads:
            thread.start()
        self.health.serve(lambda: self._keeper.is_known and not self._is_stopping)
        self._on_ready()
        try:
            self._loop()
            self._drain()
        finally:
            self._shut_down(threads)
        if self._engine_lost is not None:
            raise self._engine_lost
        return True

    def _assemble(self, card: ModelCard) -> None:
        clock = RedisClock(self._claims.now_ms())
        tokenizer = Tokenizer.from_str(card.tokenizer_json)
        self._served = ServedModels(card)
        self._runner = GenerationRunner(
            self._engine,
            self._claims,
            clock,
            tokenizer,
            self._settings,
            self._served,
            self.metrics,
            self._on_ended,
        )
        presence = Presence(self.connection, card, self.name)
        self._keeper = Keeper(
            self._claims,
            clock,
            self._runner,
            presence,
            self._settings,
            self._publish_state,
            self.health,
        )
        self._clock = clock
        self._state_told = WorkerState(self._settings, self.metrics, clock.now_ms())
        presence.announce(2 * self._settings.lease_ms)
        self._watch = AdapterWatch(
            self._folders, self._engine, self._served, presence, 2 * self._settings.lease_ms
        )

    def _publish_state(self) -> None:
        """Let those who watch the fleet see what this worker does."""
        state = self._state_told.message(self._runner.num_running, is_draining=self._is_stopping)
        fleet.publish(self.connection, state, self._clock.now_ms(), 2 * self._settings.lease_ms)

    # The loop

    def _loop(self) -> None:
        heartbeat_due = 0.0
        while not self._is_stopping:
            self.health.turn("loop")
            try:
                if time.monotonic() >= heartbeat_due:
                    self._beat()
                    heartbeat_due = time.monotonic() + _HEARTBEAT_SECONDS
                self._claim_all()
                self._note_ends()
                # An entry takes milliseconds: whoever comes goes before the next one.
                self._books.make_round(between=self._claim_all)
                self._wait()
            except RedisError as error:
                _log.warning("Redis does not answer (%s)", type(error).__name__)
                time.sleep(0.2)

    @property
    def _is_stopping(self) -> bool:
        return self._stop_requests > 0 or self._engine_lost is not None

    def _claim_all(self) -> None:
        """Claim while there is room in the batch, for somebody, and work in the queues.

        RQ's books take milliseconds; they come when all are under way.
        """
        while not self._is_stopping and (barred := self._runner.barred) is not None:
            claim = self._claims.claim(self._served.sources(), uuid4().hex, barred)
            self._note_suspension(is_suspended=isinstance(claim, Suspended))
            match claim:
                case Claim(record):
                    self.metrics.note_claim(claim)
                    _log.info("claimed", extra=logs.ids(record))
                    self._runner.add(claim)
                    self._books.later(self._books.start, claim)
                case RefusedJob(job_id, reason):
                    _log.error("a generation was refused: %s", reason, extra={"generation": job_id})
                    self._books.later(self._books.refuse, job_id)
                case StaleJob(job_id):
                    self._books.later(self._books.refuse, job_id)
                case _:
                    return

    def _note_suspension(self, *, is_suspended: bool) -> None:
        if is_suspended != (self._state == WorkerStatus.SUSPENDED):
            idle = WorkerStatus.BUSY if self.executions else WorkerStatus.IDLE
            self.set_state(WorkerStatus.SUSPENDED if is_suspended else idle)

    def _wait(self) -> None:
        """Sleep until the bell rings or a command comes; only look, where entries still wait."""
        self.health.turn("loop")
        self._follow_models()
        block_ms = None if self._books.num_waiting else _BLOCK_MS
        reply: Any = self.connection.xread(dict(self._last_seen), block=block_ms)
        for stream, entries in _streams(reply):
            self._last_seen[stream] = entries[-1][0].decode()
            for _, fields in entries:
                if b"cancel" in fields:
                    self._runner.cancel(fields[b"cancel"].decode())

    def _follow_models(self) -> None:
        """Hear the bells of all models that are served now, and tell RQ of their queues."""
        bells = {keys.bell(name) for name in self._served.names}
        control = keys.control(self.name)
        if self._last_seen.keys() == bells | {control}:
            return
        self._last_seen = {key: self._last_seen.get(key, "0-0") for key in (*bells, control)}
        names = [source.queue for source in self._served.sources()]
        self.queues = [
            Queue(name, connection=self.connection, serializer=JSONSerializer) for name in names
        ]

    def _beat(self) -> None:
        self.heartbeat()
        self._books.heartbeat()
        self._log_stats()
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()

    def _log_stats(self) -> None:
        """One line for each heartbeat in which the engine has worked."""
        stats = self._engine.stats
        if stats.num_steps != self._logged_stats.num_steps:
            _log.info("%s", stats_line(stats, self._settings.engine))
            self._logged_stats = stats

    def _keep_books(self) -> None:
        self._note_ends()
        self._books.catch_up()

    def _note_ends(self) -> None:
        while self._ended:
            execution = self._ended.popleft()
            stopped = execution.generation_id in self._stopped_by_rq
            self._stopped_by_rq.discard(execution.generation_id)
            self._books.later(self._books.end, execution.claim.owner, execution.end, stopped)
        while self._keeper.reaped:
            self.metrics.note_reaped()
            self._books.later(self._books.reaped, self._keeper.reaped.pop())

    def _on_ended(self, execution: AnyAttempt) -> None:
        """Called by the runner: there is room, and RQ has something to learn."""
        self._ended.append(execution)
        self._wake()

    def _wake(self) -> None:
        key = keys.control(self.name)
        try:
            with self.connection.pipeline(transaction=False) as pipeline:
                pipeline.xadd(key, {"wake": ""}, maxlen=1000)
                pipeline.pexpire(key, _CONTROL_TTL_MS)
                pipeline.execute()
        except RedisError:
            _log.debug("cannot wake the loop; it looks again by itself")

    def _run_runner(self) -> None:
        try:
            self._runner.run()
        except ModelLoadError as error:
            self._engine_lost = error
        except Exception:
            _log.exception("the runner has failed")
            self._engine_lost = ModelLoadError("the worker's runner has failed; see the log")

    # The end

    def _drain(self) -> None:
        """Let running generations end here, within the grace."""
        self._watch.stop()
        self._keeper.withdraw()
        deadline = time.monotonic() + self._settings.drain_seconds
        while self._runner.num_running and self._engine_lost is None:
            if self._stop_requests > 1 or time.monotonic() >= deadline:
                break
            self._keep_books()
            self._wait()

    def _shut_down(self, threads: list[threading.Thread]) -> None:
        """Hand over what still runs, then leave RQ's lists."""
        self._runner.stop()
        self._keeper.stop()
        self._watch.stop()
        for thread in threads:
            thread.join()
        try:
            self._claims.release(self._runner.claims_held())  # first: callers wait for it
            self._engine.kill()
            self._keep_books()
            self._books.release()
            self.connection.delete(keys.control(self.name))
            fleet.withdraw(self.connection, self.name)
            self.teardown()
        except RedisError as error:
            _log.warning("Redis does not answer (%s); leases will end instead", error)
        finally:
            self._engine.kill()

    # What RQ calls

    def _set_connection(self, connection: Redis) -> Redis:
        return connection  # its socket timeout is ours to decide

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Seconds for which RQ believes in an execution without another heartbeat."""
        return _EXECUTION_TTL_SECONDS

    def request_stop(self, signum: int, frame: object) -> None:
        """First signal: finish what runs. Second: hand it over at once."""
        self._stop_requests += 1

    def _install_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.request_stop)
            signal.signal(signal.SIGTERM, self.request_stop)

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:
        """Listen on, whatever Redis says; RQ's own gives up at a host that does not answer."""
        if not isinstance(exc, RedisError | OSError):
            raise exc
        _log.warning("RQ's commands are not heard now (%s)", type(exc).__name__)
        time.sleep(_LISTEN_AGAIN_SECONDS)

    def handle_payload(self, message: dict[str, Any]) -> None:
        """Obey RQ's commands: stop-job, stop-execution, shutdown, kill-horse."""
        try:
            payload = parse_payload(message)
            command = payload.get("command")
        except (json.JSONDecodeError, AttributeError):
            return
        if command in ("stop-job", "stop-execution"):
            job_id = str(payload.get("job_id", ""))
            self._stopped_by_rq.add(job_id)
            self._runner.cancel(job_id)
        elif command == "shutdown":
            self._stop_requests += 1
        elif command == "kill-horse" and (pid := self._engine.pid) is not None:
            os.kill(pid, signal.SIGKILL)

    def execute_job(self, job: Job, queue: object) -> None:
        """Never: this worker runs generations in its engine, not jobs by their function."""
        raise RuntimeError(f"job {job.id} of {queue} must not be executed")


def stats_line(stats: EngineStats, settings: EngineSettings) -> str:
    """What an operator wants to know of a working engine."""
    if not stats.num_blocks:  # an encoder
        return (
            f"engine: {stats.num_running} requests with {stats.num_waiting} inputs that wait, "
            f"{stats.num_steps} steps"
        )
    line = (
        f"engine: {stats.num_running} running, {stats.num_waiting} waiting, "
        f"{stats.num_free_blocks} of {stats.num_blocks} blocks free, "
        f"{stats.num_steps} steps, {stats.num_preemptions} preemptions"
    )
    if not settings.speculates:
        return line
    accepted, proposed = stats.num_accepted_tokens, stats.num_proposed_tokens
    return f"{line}, {accepted} of {proposed} proposed tokens accepted"


def _streams(reply: Any) -> list[tuple[str, Any]]:
    """XREAD's reply, in the forms of both protocols, as (stream, entries)."""
    if not reply:
        return []
    pairs = reply.items() if isinstance(reply, dict) else reply
    return [
        (stream.decode(), entries[0] if isinstance(reply, dict) else entries)
        for stream, entries in pairs
    ]
