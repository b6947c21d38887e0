"""RQ jobs, composed without a round trip.

RQ's own code writes the commands into a pipeline that is never sent; one of our
scripts runs them together with its own writes. So a job is what RQ makes it,
and enqueuing it is still one atomic step with admission.
"""

from __future__ import annotations

from collections.abc import Iterable

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry
from rq.serializers import JSONSerializer

# The only function that a worker runs; it is recognised by name, never imported.
FUNCTION = "miao_worker.generate"

Word = bytes | str | int | float


class RqJobs:
    """Composes the commands of RQ for jobs of ours. Opens no connection."""

    def __init__(self) -> None:
        self._offline = Redis()

    def enqueue(self, generation_id: str, queue_name: str, retention_seconds: int) -> list[Word]:
        """Create and enqueue a job."""
        queue = self._queue(queue_name)
        job = Job.create(
            func=FUNCTION,
            args=(generation_id,),
            id=generation_id,
            connection=self._offline,
            serializer=JSONSerializer,
            description=f"generation {generation_id}",
            timeout=-1,  # its deadline is the generation's own
            result_ttl=retention_seconds,
            failure_ttl=retention_seconds,
            origin=queue_name,
        )
        pipeline = self._offline.pipeline()
        queue.enqueue_job(job, pipeline=pipeline)
        return _flatten(pipeline)

    def cancel(self, generation_id: str, queue_name: str, retention_seconds: int) -> list[Word]:
        """Mark a job that never ran as cancelled."""
        job = Job(id=generation_id, connection=self._offline, serializer=JSONSerializer)
        registry = CanceledJobRegistry(
            queue_name, connection=self._offline, serializer=JSONSerializer
        )
        pipeline = self._offline.pipeline()
        job.set_status(JobStatus.CANCELED, pipeline=pipeline)
        pipeline.expire(job.key, retention_seconds)
        registry.add(job, ttl=retention_seconds, pipeline=pipeline)
        return _flatten(pipeline)

    def _queue(self, name: str) -> Queue:
        queue = Queue(name, connection=self._offline, serializer=JSONSerializer, default_timeout=-1)
        queue.redis_server_version = (6, 2, 0)  # what we ask for; else RQ would ask Redis
        return queue


def _flatten(pipeline: Pipeline) -> list[Word]:
    """A pipeline's commands as one list: count, then for each its length and its words."""
    commands: Iterable[tuple[Word, ...]] = [command[0] for command in pipeline.command_stack]
    words: list[Word] = []
    count = 0
    for command in commands:
        words.append(len(command))
        words.extend(command)
        count += 1
    return [count, *words]
