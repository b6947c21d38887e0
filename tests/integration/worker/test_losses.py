"""What a worker does when its engine is poisoned, or Redis forgets, fills up or is emptied."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError
from rq.job import Job as RqJob
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from miao.v1 import generation_pb2 as pb
from miao_queue import keys
from miao_queue.records import Status

from ...conftest import RedisServer
from . import poisoned_worker
from .conftest import Queue, Worker

Expected = Callable[[list[int], int], list[int]]


@pytest.fixture
def worker(start_worker: Callable[..., Worker]) -> Worker:
    worker = start_worker()
    worker.wait_ready()
    return worker


@pytest.fixture
def full(queue: Queue) -> Iterator[Callable[[], None]]:
    """Makes Redis refuse all that its memory limit may refuse, until the test's end."""
    before = queue.redis.config_get("maxmemory")["maxmemory"]
    yield lambda: queue.redis.config_set("maxmemory", 1)
    queue.redis.config_set("maxmemory", before)


def rq(queue: Queue, *words: str) -> str:
    command = [Path(sys.executable).with_name("rq"), *words, "--url", queue.url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rq_status(queue: Queue, generation_id: str) -> str:
    job = RqJob.fetch(generation_id, connection=queue.redis, serializer=JSONSerializer)
    return job.get_status().value


def wait_until(condition: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, condition()
        time.sleep(0.02)


def test_a_poison_ends_alone_and_costs_its_neighbours_nothing(
    queue: Queue, start_worker: Callable[..., Worker], expected: Expected
) -> None:
    worker = start_worker(main=poisoned_worker.main)
    worker.wait_ready()
    neighbours = [queue.submit([10 + i, 20, 30], max_tokens=300) for i in range(4)]
    queue.wait(neighbours[-1], lambda record: record.tokens > 5)
    poison = queue.submit([poisoned_worker.POISON, 2, 3], max_tokens=300)
    ended = queue.wait_finished(poison)
    assert ended.finished is not None
    assert ended.finished.reason == pb.FINISH_REASON_ERROR
    assert ended.finished.error.message == "the engine failed 3 times while it ran"
    wait_until(lambda: rq_status(queue, poison) == "failed")
    for i, generation_id in enumerate(neighbours):
        record = queue.wait_finished(generation_id)
        assert record.attempt == 1
        assert queue.token_ids(generation_id) == expected([10 + i, 20, 30], 300)


def test_what_redis_forgets_is_written_again(
    queue: Queue, worker: Worker, expected: Expected
) -> None:
    whole, tail = queue.submit([1, 2, 3], max_tokens=400), queue.submit([4, 5, 6], max_tokens=400)
    queue.wait(tail, lambda record: record.tokens > 20)
    with queue.redis.pipeline() as pipeline:  # as after a restart without the last seconds
        pipeline.delete(keys.generation(whole), keys.journal(whole))
        pipeline.zrem(keys.LEASES, whole)
        pipeline.delete(keys.journal(tail))
        pipeline.hset(keys.generation(tail), "tokens", 0)
        pipeline.execute()
    wait_until(lambda: bool(queue.redis.exists(keys.generation(whole))))
    for generation_id, prompt in ((whole, [1, 2, 3]), (tail, [4, 5, 6])):
        assert queue.wait_finished(generation_id).attempt == 1
        assert queue.token_ids(generation_id) == expected(prompt, 400)


def test_ends_that_a_restart_of_redis_lost_are_written_again(
    queue: Queue, worker: Worker, redis_server: RedisServer, expected: Expected
) -> None:
    whole, tail = queue.submit([1, 2, 3], max_tokens=200), queue.submit([4, 5, 6], max_tokens=400)
    queue.wait(tail, lambda record: record.tokens > 20)
    names = (keys.generation(tail), keys.journal(tail))
    with queue.redis.pipeline() as pipeline:  # both in the same moment
        for name in names:
            pipeline.dump(name)
        kept = dict(zip(names, pipeline.execute(), strict=True))
    ended = {generation_id: queue.wait_finished(generation_id) for generation_id in (whole, tail)}
    queue.redis.delete(keys.generation(whole), keys.journal(whole))
    for key, value in kept.items():
        queue.redis.restore(key, 0, value, replace=True)
    queue.redis.shutdown()
    redis_server.kill()
    redis_server.start()
    wait_until(lambda: bool(queue.redis.exists(keys.generation(whole))))
    for generation_id, prompt, length in ((whole, [1, 2, 3], 200), (tail, [4, 5, 6], 400)):
        record = queue.wait_finished(generation_id)
        assert record.finished == ended[generation_id].finished
        assert queue.token_ids(generation_id) == expected(prompt, length)
        assert 0 < queue.redis.ttl(keys.generation(generation_id)) <= 60


def test_a_full_redis_refuses_the_new_and_finishes_the_accepted(
    queue: Queue, worker: Worker, expected: Expected, full: Callable[[], None]
) -> None:
    running = queue.submit([1, 2, 3], max_tokens=450)
    queue.wait(running, lambda record: record.tokens > 5)
    full()
    keys_before = set(queue.redis.keys())
    with pytest.raises(ResponseError, match="command not allowed when used memory"):
        queue.submit([4, 5, 6], request_id="refused")
    assert not [key for key in set(queue.redis.keys()) - keys_before if b"gen" in key]
    assert queue.wait_finished(running).attempt == 1
    assert queue.token_ids(running) == expected([1, 2, 3], 450)


def test_rqs_suspend_resume_and_requeue_do_what_an_rq_user_expects(
    queue: Queue, worker: Worker
) -> None:
    rq(queue, "suspend")
    held = queue.submit([1, 2, 3], max_tokens=5)
    wait_until(lambda: "suspended" in rq(queue, "info"))
    assert queue.record(held).status is Status.QUEUED
    rq(queue, "resume")
    queue.wait_finished(held)
    with worker.engine_held():
        failed = queue.submit([1, 2, 3], max_tokens=450, timeout_ms=200)
        queue.wait_finished(failed)
    wait_until(lambda: rq_status(queue, failed) == "failed")
    name = keys.queue_name("tiny", "normal")
    registry = FailedJobRegistry(name, queue.redis, serializer=JSONSerializer)
    assert registry.get_job_ids() == [failed]
    journal = queue.redis.xrange(keys.journal(failed))
    rq(queue, "requeue", "--queue", name, failed)
    wait_until(lambda: rq_status(queue, failed) == "failed")
    job = RqJob.fetch(failed, connection=queue.redis, serializer=JSONSerializer)
    result = job.latest_result()
    assert result is not None
    assert "cannot be opened again" in str(result.exc_string)
    assert registry.get_job_ids() == [failed]
    assert queue.redis.xrange(keys.journal(failed)) == journal


def test_a_generation_of_the_model_before_ends_with_the_reason(
    queue: Queue, start_worker: Callable[..., Worker]
) -> None:
    """It waited while its model went away and came back with another vocabulary."""
    waited = queue.submit([10, 20, 30], vocabulary="the one before")
    worker = start_worker()
    worker.wait_ready()
    record = queue.wait_finished(waited)
    assert record.finished is not None
    assert record.finished.reason == pb.FINISH_REASON_ERROR
    assert record.finished.error.code == 9  # FAILED_PRECONDITION
    assert "vocabulary" in record.finished.error.message
    queue.events(waited)
    card = queue.redis.hget(keys.model("tiny"), "vocabulary")
    known = queue.submit([10, 20, 30], vocabulary=card.decode())
    assert len(queue.token_ids(queue.wait_finished(known).generation_id)) == 20
