"""A Redis comes and another goes, under load, by replacing one front after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from miao_client import AsyncClient
from miao_queue import keys
from miao_service.front import running_front
from miao_service.settings import ServiceSettings
from tests.conftest import RedisServer, free_port
from tests.forked_worker import ForkedWorker

from .conftest import WORKER_OPTIONS

NUM_CALLERS = 6
STEPS = (
    "a,b",
    "a,b,c:joining",
    "a,b,c:new",
    "a:draining,b,c:new",
)


@pytest.fixture
def worker(
    servers: dict[str, RedisServer], tiny_model: Path, tmp_path: Path
) -> Iterator[ForkedWorker]:
    """One that follows all three, as workers do before any front."""
    arguments = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    for name, server in servers.items():
        arguments += ["--redis-url", f"{name}={server.url}"]
    worker = ForkedWorker(arguments, tmp_path / "worker.log")
    try:
        for server in servers.values():
            with Redis.from_url(server.url) as redis:
                while not redis.zcard(keys.workers("tiny")):
                    assert worker.poll() is None
                    time.sleep(0.02)
        yield worker
    finally:
        worker.kill_group()


async def test_nothing_is_lost_and_every_stream_is_exact(
    servers: dict[str, RedisServer],
    worker: ForkedWorker,
    expected: Callable[[list[int], int], list[int]],
) -> None:
    ports = [free_port(), free_port()]
    said: dict[str, tuple[list[int], list[int]]] = {}
    is_over = asyncio.Event()

    def front(port: int, step: str) -> contextlib.AbstractAsyncContextManager[object]:
        addresses = step
        for name, server in servers.items():
            for state in ("", ":joining", ":new", ":draining"):
                words = addresses.split(",")
                addresses = ",".join(f"{w}={server.url}" if w == name + state else w for w in words)
        settings = ServiceSettings(
            listen=f"127.0.0.1:{port}", redis_url=addresses, drain_seconds=0.1, refresh_seconds=0.1
        )
        return running_front(settings)  # type: ignore[no-any-return]

    async def call(number: int) -> None:
        async with AsyncClient([f"127.0.0.1:{port}" for port in ports]) as client:
            for turn in range(1000):
                prompt, tokens = [10 + number, 20, 30 + turn % 3], []
                stream = client.generate(prompt, max_tokens=60, temperature=0, ignore_eos=True)
                async for chunk in stream:
                    tokens += chunk.token_ids
                said[await stream.accepted()] = prompt, tokens
                if is_over.is_set():
                    return

    async with contextlib.AsyncExitStack() as stack:
        fronts = [await stack.enter_async_context(contextlib.AsyncExitStack()) for _ in ports]
        for each, port in zip(fronts, ports, strict=True):
            await each.enter_async_context(front(port, STEPS[0]))
        callers = [asyncio.create_task(call(number)) for number in range(NUM_CALLERS)]
        async with AsyncClient(f"127.0.0.1:{ports[0]}") as client:
            held = [await client.create([9, 9, i], max_tokens=5, temperature=0) for i in range(8)]
        for step in STEPS[1:]:
            for each, port in zip(fronts, ports, strict=True):
                before = len(said)
                await each.aclose()  # drains
                await each.enter_async_context(front(port, step))
                while len(said) < before + NUM_CALLERS:
                    assert not any(caller.done() for caller in callers)
                    await asyncio.sleep(0.01)
        is_over.set()
        await asyncio.gather(*callers)
        async with AsyncClient(f"127.0.0.1:{ports[0]}") as client:
            for generation in held:  # made before any change, on a and on b
                assert (await client.follow(generation.generation_id).result()).token_ids
    for prompt, tokens in said.values():
        assert tokens == expected(prompt, 60)
    places = Counter[str]()
    for name, server in servers.items():
        with Redis.from_url(server.url) as redis:
            assert not redis.zcard(keys.LEASES)
            assert not redis.zcard(keys.WAITING)
            held_here = [redis.hexists(keys.generation(each), "status") for each in said]
            places[name] = sum(map(bool, held_here))
    assert sum(places.values()) == len(said)  # each on one, none on two
    assert min(places.values()) > 0
