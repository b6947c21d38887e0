"""What RQ is told of each generation, so that its tools show the truth.

Off the path of tokens: the journals and claims decide, RQ's registries follow.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.executions import Execution as RqExecution
from rq.executions import ExecutionRegistry
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import BaseWorker, WorkerStatus

from miao.v1 import generation_pb2 as pb
from miao_queue import keys
from miao_queue.claims import Claim, ReapedClaim

_log = logging.getLogger(__name__)


_P = ParamSpec("_P")

_HAS_ENDED = (
    "this generation has ended, and its stream cannot be opened again: send it anew, "
    "under another request_id"
)
_NO_GENERATION = "this queue runs generations only; the job was not run"


@dataclass(frozen=True, slots=True)
class _Started:
    job: Job
    queue: Queue
    execution: RqExecution


class RqBookkeeping:
    """Keeps RQ's job, execution and registries in step with claims.

    The execution's id is the claim's owner. What Redis does not take at the
    moment is written `later`, in order. Not thread-safe.
    """

    def __init__(self, worker: BaseWorker, connection: Redis) -> None:
        self._worker = worker
        self._redis = connection
        self._started: dict[str, _Started] = {}  # by owner
        self._backlog: deque[Callable[[], None]] = deque()

    def later(self, entry: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Make an entry with the next `catch_up`."""
        self._backlog.append(partial(entry, *args, **kwargs))

    def catch_up(self) -> None:
        """Make all entries that wait. After a RedisError those not made wait on."""
        while self._backlog:
            self.make_next()

    def make_round(self, between: Callable[[], None]) -> None:
        """Make the entries that wait now, and call `between` before each that is left.

        What `between` adds waits for the next round: rounds end however fast work comes.
        """
        for _ in range(len(self._backlog)):
            self.make_next()
            if self._backlog:
                between()

    @property
    def num_waiting(self) -> int:
        """Entries to be made."""
        return len(self._backlog)

    def make_next(self) -> None:
        """Make the entry that waits for the longest. After a RedisError it waits on."""
        try:
            self._backlog[0]()
        except RedisError:
            raise
        except Exception:
            _log.exception("RQ does not take an entry; it is left out")
        self._backlog.popleft()

    def start(self, claim: Claim) -> None:
        """A generation runs here: job started, execution registered."""
        try:
            job = self._fetch(claim.record.generation_id)
        except NoSuchJobError:
            return  # deleted with RQ's tools; the generation runs all the same
        execution = RqExecution(claim.owner, job.id, self._redis, self._worker.name)
        execution._job = job
        ttl = self._worker.get_heartbeat_ttl(job)
        with self._redis.pipeline() as pipeline:
            execution.save(ttl=ttl, pipeline=pipeline)
            ExecutionRegistry(job.id, connection=self._redis).add(
                execution, ttl=ttl, pipeline=pipeline
            )
            job.started_job_registry.add_execution(execution, pipeline=pipeline, ttl=ttl)
            pipeline.sadd(execution.worker_executions_key, execution.composite_key)
            pipeline.expire(execution.worker_executions_key, ttl + 60)
            self._worker.set_state(WorkerStatus.BUSY, pipeline=pipeline)
            job.prepare_for_execution(self._worker.name, pipeline=pipeline)
            pipeline.persist(job.key)
            pipeline.execute()
        self._worker.executions[execution.id] = execution
        queue = Queue(claim.record.queue, connection=self._redis, serializer=JSONSerializer)
        self._started[claim.owner] = _Started(job, queue, execution)

    def heartbeat(self) -> None:
        """Say that the executions go on."""
        for started in list(self._started.values()):
            self._worker.maintain_heartbeats(started.job, started.execution)

    def end(self, owner: str, end: pb.Finished | None, stopped: bool = False) -> None:
        """A generation has ended here, or is lost to another worker (no `end`).

        `stopped`: with RQ's own stop-job command.
        """
        started = self._started.get(owner)
        if started is None:
            return
        started.job.ended_at = now()
        if end is None:
            self._clean_up(started)
        elif end.reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH):
            self._succeed(started)
        elif end.reason == pb.FINISH_REASON_CANCELLED and not stopped:
            self._cancel(started)
        else:
            self._fail(started, _failure(end), stopped)
        del self._started[owner]
        if not self._started:
            self._worker.set_state(WorkerStatus.IDLE)

    def release(self) -> None:
        """All that still ran was given back."""
        for owner in list(self._started):
            self.end(owner, None)

    def reaped(self, claim: ReapedClaim) -> None:
        """Another worker's claim was taken back."""
        try:
            job = self._fetch(claim.generation_id)
        except NoSuchJobError:
            return
        execution = RqExecution(claim.owner, job.id, self._redis, claim.worker)
        with self._redis.pipeline() as pipeline:
            execution.delete(job, pipeline)
            pipeline.execute()

    def refuse(self, job_id: str) -> None:
        """A job from a queue that is not a waiting generation, and must not run.

        One that runs already, put into the queue again, goes on as it does. One
        that has ended (`rq requeue`) cannot be opened again: its callers have its
        end. Anything else is no work for us; its function is not looked at, let
        alone imported.
        """
        try:
            job = self._fetch(job_id)
        except NoSuchJobError:
            return
        status = self._redis.hget(keys.generation(job_id), "status")
        if status == b"running":
            job.set_status(JobStatus.STARTED)
            return
        _log.error("job %s is not a waiting generation and is not run", job_id)
        queue = Queue(job.origin, connection=self._redis, serializer=JSONSerializer)
        job.started_at = job.ended_at = now()
        message = _HAS_ENDED if status == b"finished" else _NO_GENERATION
        self._worker.handle_job_failure(job, queue, exc_string=message)

    def _fetch(self, job_id: str) -> Job:
        return Job.fetch(job_id, connection=self._redis, serializer=JSONSerializer)

    def _succeed(self, started: _Started) -> None:
        started.job._status = JobStatus.FINISHED
        self._worker.handle_job_success(
            started.job, started.queue, started.queue.started_job_registry, started.execution
        )

    def _fail(self, started: _Started, message: str, stopped: bool) -> None:
        if stopped:
            self._worker._stopped_job_id = started.job.id
        self._worker.handle_job_failure(
            started.job, started.queue, exc_string=message, execution=started.execution
        )

    def _cancel(self, started: _Started) -> None:
        job = started.job
        registry = CanceledJobRegistry(
            job.origin, connection=self._redis, serializer=JSONSerializer
        )
        with self._redis.pipeline() as pipeline:
            job.set_status(JobStatus.CANCELED, pipeline=pipeline)
            self._worker.cleanup_execution(job, pipeline=pipeline, execution=started.execution)
            registry.add(job, ttl=job.result_ttl or 0, pipeline=pipeline)
            pipeline.expire(job.key, job.result_ttl or 0)
            pipeline.execute()

    def _clean_up(self, started: _Started) -> None:
        with self._redis.pipeline() as pipeline:
            self._worker.cleanup_execution(
                started.job, pipeline=pipeline, execution=started.execution
            )
            pipeline.execute()


def _failure(end: pb.Finished) -> str:
    if end.reason == pb.FINISH_REASON_DEADLINE_EXCEEDED:
        return "the generation's time was over"
    return end.error.message
