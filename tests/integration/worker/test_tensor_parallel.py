"""A worker whose model is computed by two processes: when one of them ends, nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from .conftest import Queue, Worker


def follower_of(worker: Worker) -> psutil.Process:
    """The engine's second rank."""
    (follower,) = psutil.Process(worker.engine_pid()).children()
    assert follower.name() == "miao-rank-1"
    return follower


def wait_for_end(*processes: psutil.Process) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_killed_rank_costs_no_token_and_none_outlives_the_worker(
    queue: Queue,
    start_worker: Callable[..., Worker],
    expected: Callable[[list[int], int], list[int]],
) -> None:
    worker = start_worker("--tensor-parallel-size", "2")
    worker.wait_ready()
    prompts = [[9 + i, 8, 7] for i in range(2)]
    ids = [queue.submit(prompt, max_tokens=60) for prompt in prompts]
    queue.wait(ids[0], lambda record: record.tokens > 10)
    engine, follower = psutil.Process(worker.engine_pid()), follower_of(worker)
    follower.kill()
    wait_for_end(engine, follower)
    for prompt, generation_id in zip(prompts, ids, strict=True):
        assert queue.wait_finished(generation_id).attempt == 1
        assert queue.token_ids(generation_id) == expected(prompt, 60)
    last = follower_of(worker)
    last.suspend()  # even one that hangs
    assert worker.stop() == 0
    wait_for_end(last)
