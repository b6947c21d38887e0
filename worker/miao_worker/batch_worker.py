"""The RQ worker that batches: many jobs at once in one engine, none forked.

It is what a worker is to one Redis. Three threads: this one claims jobs and keeps RQ's
books, the runner's publishes tokens, the keeper's renews leases. This one sleeps in a
read of two streams: the model's bell, which rings for each queued job, and the worker's control.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
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
from miao_worker.attempt import AnyAttempt
from miao_worker.clock import RedisClock
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.protocol import EngineSettings
from miao_worker.engine.types import EngineStats
from miao_worker.generation_runner import GenerationRunner
from miao_worker.keeper import Keeper
from miao_worker.rq_bookkeeping import RqBookkeeping
from miao_worker.settings import WorkerSettings
from miao_worker.shared_engine import SharedEngine
from miao_worker.worker_state import WorkerState

_log = logging.getLogger(__name__)

_BLOCK_MS = 500  # how long a wait for work may last; also how late a signal is seen
_HEARTBEAT_SECONDS = 10.0
_EXECUTION_TTL_SECONDS = 120
_CONTROL_TTL_MS = 600_000
_LISTEN_AGAIN_SECONDS = 1.0


class BatchWorker(BaseWorker):
    """An RQ worker whose one work horse is an engine, which it may share with others of its kind.

    `assemble` and `begin`, again where Redis did not answer; `loop`, `drain`, `stop`, and `leave`
    when the engine has ended.
    """

    def __init__(
        self, settings: WorkerSettings, connection: Redis, shared: SharedEngine, shard: str = ""
    ) -> None:
        """`shard`: the Redis's name, where there are several."""
        super().__init__(
            keys.queue_names(settings.model_name),
            name=settings.name,
            connection=connection,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self.shard = shard
        self._settings = settings
        self._shared = shared
        self._claims = ClaimStore(connection, settings.name, settings.lease_ms, settings.protection)
        self._books = RqBookkeeping(self, connection)
        self._ended: deque[AnyAttempt] = deque()
        self._stopped_by_rq: set[str] = set()
        self._is_held_up = False  # for others' turn, or want of room
        self._logged_stats = EngineStats()
        self._last_seen: dict[Any, Any] = {
            keys.bell(settings.model_name): "0-0",
            keys.control(settings.name): "0-0",
        }
        self._threads: list[threading.Thread] = []
        self._turns = shared.turns
        self._loop_name = self._turn_name("loop")
        self._is_assembled = self._is_born = False
        self._runner: GenerationRunner
        self._keeper: Keeper
        self._clock: RedisClock
        self._state_told: WorkerState

    @property
    def is_known(self) -> bool:
        """Whether fronts of this Redis count this worker."""
        return self._is_assembled and self._keeper.is_known

    def assemble(self, card: ModelCard) -> None:
        """Make the parts, and announce the model. Raises RedisError."""
        if self._is_assembled:
            return
        shared, settings = self._shared, self._settings
        clock = RedisClock(self._claims.now_ms())
        presence = Presence(self.connection, card, self.name)
        presence.announce(2 * settings.lease_ms)
        shared.presence.join(presence, 2 * settings.lease_ms)
        self._runner = GenerationRunner(
            shared.batch,
            self._claims,
            clock,
            Tokenizer.from_str(card.tokenizer_json),
            settings,
            shared.served,
            shared.metrics,
            self._on_ended,
        )
        shared.join(self._runner)
        self._keeper = Keeper(
            self._claims,
            clock,
            self._runner,
            presence,
            settings,
            self._publish_state,
            shared.health,
            self._turn_name("keeper"),
        )
        self._clock = clock
        self._state_told = WorkerState(settings, shared.metrics, clock.now_ms())
        self._is_assembled = True

    def begin(self) -> None:
        """Be a worker in RQ's lists, and let the threads run. Raises RedisError."""
        if not self._is_born:
            self.register_birth()
            self._is_born = True
        self.subscribe()
        self.set_state(WorkerStatus.IDLE)
        self._threads = [
            threading.Thread(target=self._run_runner, name="runner"),
            threading.Thread(target=self._keeper.run, name="keeper"),
        ]
        for thread in self._threads:
            thread.start()

    def work(self, *_: Any, **__: Any) -> bool:
        """Never: see `loop`."""
        raise RuntimeError("a BatchWorker works for a Worker")

    def _turn_name(self, loop: str) -> str:
        return f"{loop} of {self.shard}" if self.shard else loop

    def _publish_state(self) -> None:
        """Let those who watch the fleet see what this worker does."""
        state = self._state_told.message(
            self._shared.num_running, is_draining=self._shared.is_stopping
        )
        fleet.publish(self.connection, state, self._clock.now_ms(), 2 * self._settings.lease_ms)

    # The loop

    def loop(self) -> None:
        """Claim and keep the books until the worker stops."""
        heartbeat_due = 0.0
        while not self._shared.is_stopping:
            self._shared.health.turn(self._loop_name)
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

    def _claim_all(self) -> None:
        """Claim while there is room in the batch, for somebody, and work in the queues.

        RQ's books take milliseconds; they come when all are under way.
        """
        while not self._shared.is_stopping and (barred := self._barred()) is not None:
            claim = self._claims.claim(self._shared.served.sources(), uuid4().hex, barred)
            self._note_suspension(is_suspended=isinstance(claim, Suspended))
            match claim:
                case Claim(record):
                    if self._turns is not None:
                        self._turns.claimed(self.shard)
                    self._shared.metrics.note_claim(claim)
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

    def _barred(self) -> list[str] | None:
        """The tenants that get nothing; None where there is no room, or another's turn."""
        barred = self._runner.barred
        if self._turns is None:
            return barred
        if barred is None:
            self._turns.held_up(self.shard)
        elif not self._turns.may_claim(self.shard, self._runner.num_free):
            barred = None
        self._is_held_up = barred is None
        return barred

    def _note_suspension(self, *, is_suspended: bool) -> None:
        if is_suspended != (self._state == WorkerStatus.SUSPENDED):
            idle = WorkerStatus.BUSY if self.executions else WorkerStatus.IDLE
            self.set_state(WorkerStatus.SUSPENDED if is_suspended else idle)

    def _wait(self) -> None:
        """Sleep until the bell rings or a command comes; only look, where entries still wait."""
        self._shared.health.turn(self._loop_name)
        self._follow_models()
        block_ms = None if self._books.num_waiting or self._is_held_up else _BLOCK_MS
        if self._is_held_up and not self._books.num_waiting and self._turns is not None:
            self._turns.wait()  # for what ends at any Redis, which no bell of this one tells
        reply: Any = self.connection.xread(dict(self._last_seen), block=block_ms)
        for stream, entries in _streams(reply):
            self._last_seen[stream] = entries[-1][0].decode()
            for _, fields in entries:
                if b"cancel" in fields:
                    self._runner.cancel(fields[b"cancel"].decode())

    def _follow_models(self) -> None:
        """Hear the bells of all models that are served now, and tell RQ of their queues."""
        bells = {keys.bell(name) for name in self._shared.served.names}
        control = keys.control(self.name)
        if self._last_seen.keys() == bells | {control}:
            return
        self._last_seen = {key: self._last_seen.get(key, "0-0") for key in (*bells, control)}
        names = [source.queue for source in self._shared.served.sources()]
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
        stats = self._shared.engine.stats
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
            self._shared.metrics.note_reaped()
            self._books.later(self._books.reaped, self._keeper.reaped.pop())

    def _on_ended(self, executions: Sequence[AnyAttempt]) -> None:
        """Called by the runner: there is room, and RQ has something to learn."""
        self._ended.extend(executions)
        if self._turns is not None:
            self._turns.note_room()
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
            self._shared.lost = error
        except Exception:
            _log.exception("the runner has failed")
            self._shared.lost = ModelLoadError("the worker's runner has failed; see the log")

    # The end

    def drain(self) -> None:
        """Let running generations end here, within the grace."""
        self._is_held_up = False
        self._keeper.withdraw()
        deadline = time.monotonic() + self._settings.drain_seconds
        while self._runner.num_running and self._shared.lost is None:
            if self._shared.stop_requests > 1 or time.monotonic() >= deadline:
                break
            self._keep_books()
            self._wait()

    def stop(self) -> None:
        """Let the threads end; what still runs keeps its claim."""
        if not self._is_assembled:
            return
        self._runner.stop()
        self._keeper.stop()
        for thread in self._threads:
            thread.join()

    def hand_over(self) -> None:
        """Give back what still runs: callers wait for it."""
        if self._is_assembled:
            self._politely(lambda: self._claims.release(self._runner.claims_held()))

    def leave(self) -> None:
        """Leave RQ's lists."""
        if self._is_born:
            self._politely(self._say_goodbye)

    def _say_goodbye(self) -> None:
        self._keep_books()
        self._books.release()
        self.connection.delete(keys.control(self.name))
        fleet.withdraw(self.connection, self.name)
        self.teardown()

    def _politely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except RedisError as error:
            _log.warning("Redis does not answer (%s); leases will end instead", error)

    # What RQ calls

    def _set_connection(self, connection: Redis) -> Redis:
        return connection  # its socket timeout is ours to decide

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Seconds for which RQ believes in an execution without another heartbeat."""
        return _EXECUTION_TTL_SECONDS

    def request_stop(self, signum: int, frame: object) -> None:
        """First signal: finish what runs. Second: hand it over at once."""
        self._shared.stop_requests += 1

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
            self._shared.stop_requests += 1
        elif command == "kill-horse" and (pid := self._shared.engine.pid) is not None:
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
