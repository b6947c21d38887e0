"""Sentinels put the replica in the primary's place, while callers stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis

from miao_client import Client
from miao_queue import keys
from miao_worker.stack import StackSettings
from tests.forked_worker import ForkingStack
from tests.sentinels import SentinelFleet, sentinel_fleet

from .conftest import WORKER_OPTIONS

NUM_CALLERS = 4
TOKENS = 250
LOST = 40  # tokens that the replica does not get, at the least


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelFleet]:
    with sentinel_fleet(tmp_path / "redis") as fleet:
        yield fleet


@pytest.fixture
def client(sentinels: SentinelFleet, tiny_model: Path) -> Iterator[Client]:
    options = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    settings = StackSettings("127.0.0.1:0", options, redis_url=sentinels.url)
    stack = ForkingStack(settings, lambda *_: None)
    stack.start()
    try:
        with Client(stack.address) as client:
            yield client
    finally:
        stack.stop()


def test_streams_outlast_the_death_of_the_primary_and_the_loss_of_its_tail(
    client: Client, sentinels: SentinelFleet, expected: Callable[[list[int], int], list[int]]
) -> None:
    prompts = [[10 + i, 20, 30] for i in range(NUM_CALLERS)]
    begun: list[int] = []

    def call(prompt: list[int]) -> list[int]:
        said: list[int] = []
        for chunk in client.generate(prompt, max_tokens=TOKENS, temperature=0, ignore_eos=True):
            said += chunk.token_ids
            begun.append(prompt[0])
        return said

    with ThreadPoolExecutor(NUM_CALLERS) as pool:
        calls = [pool.submit(call, prompt) for prompt in prompts]
        while len(set(begun)) < NUM_CALLERS:
            assert not any(each.done() for each in calls)
        with sentinels.lagging():  # so that the new primary lacks what is said now
            before = len(begun)
            while len(begun) < before + LOST:
                assert not all(each.done() for each in calls)
            dead = sentinels.kill()
        sentinels.await_failover(dead)
        said = [each.result(60) for each in calls]
    for prompt, token_ids in zip(prompts, said, strict=True):
        assert token_ids == expected(prompt, TOKENS)
    assert sentinels.primary() != dead
    with Redis(port=sentinels.primary()) as redis:
        assert not redis.zcard(keys.LEASES)
        names = {redis.hget(key, "status") for key in redis.scan_iter(keys.generation("*"))}
    assert names == {b"finished"}
    # What is asked for now, the new one has.
    assert client.generate(prompts[0], max_tokens=5).result().token_ids
