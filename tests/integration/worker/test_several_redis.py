"""A worker that follows two Redis with one engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from miao.v1 import generation_pb2 as pb
from miao_queue import keys
from miao_queue.records import Status

from ...conftest import RedisServer
from . import poisoned_worker
from .conftest import Queue, Worker
from .test_losses import wait_until

Expected = Callable[[list[int], int], list[int]]
Start = Callable[..., Worker]


@pytest.fixture
def queues(servers: dict[str, RedisServer]) -> Iterator[dict[str, Queue]]:
    made = {name: Queue(servers[name].url) for name in ("a", "b")}
    yield made
    for queue in made.values():
        queue.redis.close()


@pytest.fixture
def start(servers: dict[str, RedisServer], tiny_model: Path, tmp_path: Path) -> Iterator[Start]:
    workers: list[Worker] = []
    addresses = ",".join(f"{name}={servers[name].url}" for name in ("a", "b"))

    def begin(*options: str, **main: object) -> Worker:
        log = tmp_path / f"worker{len(workers)}.log"
        workers.append(Worker(addresses, tiny_model, log, *options, **main))  # type: ignore[arg-type]
        return workers[-1]

    yield begin
    for worker in workers:
        worker.process.kill_group()


@pytest.fixture
def worker(start: Start, queues: dict[str, Queue]) -> Worker:
    worker = start()
    worker.wait_ready()
    for queue in queues.values():
        wait_until(lambda queue=queue: bool(queue.redis.zcard(keys.workers("tiny"))))  # type: ignore[misc]
    return worker


def prompts(count: int) -> list[list[int]]:
    return [[10 + i, 20, 30] for i in range(count)]


def test_one_engine_serves_both_through_its_death(
    queues: dict[str, Queue], worker: Worker, expected: Expected
) -> None:
    made = [
        (queue, queue.submit(prompt, max_tokens=200), prompt)
        for prompt in prompts(3)
        for queue in queues.values()
    ]
    for queue, generation_id, _ in made:
        queue.wait(generation_id, lambda record: record.tokens > 5)
    os.kill(worker.engine_pid(), signal.SIGKILL)
    names = set()
    for queue, generation_id, prompt in made:
        assert queue.wait_finished(generation_id).attempt == 1
        assert queue.token_ids(generation_id) == expected(prompt, 200)
        names |= queue.redis.smembers("rq:workers")
    assert len(names) == 1  # a worker of RQ at both


def test_a_poison_in_one_takes_nobody_along_in_the_other(
    queues: dict[str, Queue], start: Start, expected: Expected
) -> None:
    worker = start(main=poisoned_worker.main)
    worker.wait_ready()
    neighbours = [(queue, queue.submit([1, 2, 3], max_tokens=250)) for queue in queues.values()]
    for queue, generation_id in neighbours:
        queue.wait(generation_id, lambda record: record.tokens > 5)
    poison = queues["a"].submit([poisoned_worker.POISON, 2, 3], max_tokens=300)
    ended = queues["a"].wait_finished(poison)
    assert ended.finished is not None
    assert ended.finished.error.message == "the engine failed 3 times while it ran"
    for queue, generation_id in neighbours:
        queue.wait_finished(generation_id)
        assert queue.token_ids(generation_id) == expected([1, 2, 3], 250)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_is_down_or_frozen_holds_up_its_own_alone(
    queues: dict[str, Queue],
    worker: Worker,
    servers: dict[str, RedisServer],
    expected: Expected,
    how: signal.Signals,
) -> None:
    held = queues["b"].submit([1, 2, 3], max_tokens=400)
    queues["b"].wait(held, lambda record: record.tokens > 5)
    process = servers["b"].process
    assert process is not None
    process.send_signal(how)
    try:
        for prompt in prompts(3):  # claimed, run and ended meanwhile
            generation_id = queues["a"].submit(prompt, request_id=f"{how}-{prompt}", max_tokens=50)
            assert queues["a"].wait_finished(generation_id, 20).attempt == 1
            assert queues["a"].token_ids(generation_id) == expected(prompt, 50)
    finally:
        if how is signal.SIGKILL:
            servers["b"].kill()
            servers["b"].start()
        else:
            process.send_signal(signal.SIGCONT)
    assert queues["b"].wait_finished(held).attempt == 1
    assert queues["b"].token_ids(held) == expected([1, 2, 3], 400)


def test_one_that_is_down_at_the_start_is_served_when_it_comes(
    queues: dict[str, Queue], start: Start, servers: dict[str, RedisServer]
) -> None:
    servers["b"].kill()
    try:
        worker = start()
        worker.wait_ready()
        queues["a"].wait_finished(queues["a"].submit([1, 2, 3]))
    finally:
        servers["b"].start()
    queues["b"].wait_finished(queues["b"].submit([1, 2, 3]))


def test_a_full_batch_takes_turns_between_them(queues: dict[str, Queue], start: Start) -> None:
    worker = start("--max-sequences", "1")
    worker.wait_ready()
    with worker.engine_held():
        crowd = [queues["a"].submit([1, 2, i], max_tokens=10) for i in range(12)]
        alone = queues["b"].submit([1, 2, 3], max_tokens=10)
    queues["b"].wait_finished(alone)
    # Not behind the whole crowd: after some few, whatever ran when it came.
    waiting = [each for each in crowd if queues["a"].record(each).status is Status.QUEUED]
    assert len(waiting) >= 4
    for generation_id in crowd:
        queues["a"].wait_finished(generation_id)


def test_a_worker_that_is_told_to_stop_hands_over_at_both(
    queues: dict[str, Queue], worker: Worker
) -> None:
    os.kill(worker.engine_pid(), signal.SIGSTOP)  # nothing ends meanwhile
    made = {name: queue.submit([1, 2, 3], max_tokens=400) for name, queue in queues.items()}
    for name, queue in queues.items():
        queue.wait(made[name], lambda record: record.status is Status.RUNNING)
    for _ in range(2):  # at once
        worker.process.terminate()
        wait_until(lambda: not queues["a"].redis.zcard(keys.workers("tiny")))
    assert worker.process.wait(20) == 0
    for name, queue in queues.items():
        record = queue.record(made[name])
        assert (record.status, record.crashes) == (Status.QUEUED, 0)
        assert not queue.redis.smembers("rq:workers")
        assert not queue.redis.zcard(keys.FLEET)


def test_stop_job_and_cancel_reach_it_at_either(queues: dict[str, Queue], worker: Worker) -> None:
    for queue in queues.values():
        generation_id = queue.submit([1, 2, 3], max_tokens=450)
        queue.wait(generation_id, lambda record: record.tokens > 3)
        queue.with_store(lambda store, name=generation_id: store.cancel(name))  # type: ignore[misc]
        ended = queue.wait_finished(generation_id).finished
        assert ended is not None
        assert ended.reason == pb.FINISH_REASON_CANCELLED


def test_the_fleet_shows_one_worker_at_both(queues: dict[str, Queue], worker: Worker) -> None:
    def names(redis: Redis) -> set[bytes]:
        return set(redis.zrange(keys.FLEET, 0, -1))

    wait_until(lambda: all(names(queue.redis) for queue in queues.values()))
    assert names(queues["a"].redis) == names(queues["b"].redis)
