"""Programs of this version with what the one before it left in Redis, and the other way round."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from miao_client import AsyncClient, GenerationState
from miao_queue import keys
from miao_queue.records import TENANT, generation_id
from miao_service.front import running_front
from miao_service.settings import ServiceSettings

from ..chaos.process import HERE, ForkedProcess, Host, Process
from . import baseline
from .checkout import Checkout
from .recording import Recording, restore
from .specs import PROTECTION, SPECS, State, begin

MODEL = "miao-tiny"
WORKER = ("--device", "cpu", "--dtype", "float32", "--num-threads", "1", "--cache-gib", "0.05")
NAMES = [(name, state) for name in SPECS for state in State]


@pytest.fixture(params=[baseline.REDIS, baseline.SEALED], ids=["plain", "sealed"])
def recording(
    request: pytest.FixtureRequest, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Recording:
    recording = Recording.read(request.param)
    if request.param == baseline.SEALED:
        for name, value in PROTECTION.items():
            monkeypatch.setenv(name, value)
    with Redis.from_url(redis_url) as redis:
        restore(redis, recording)
    return recording


@asynccontextmanager
async def running_client(redis_url: str) -> AsyncIterator[AsyncClient]:
    signing, sealing, encryption = (os.environ.get(name, "") for name in PROTECTION)
    settings = ServiceSettings(
        redis_url=redis_url,
        queue_without_worker=True,
        signing_keys=signing,
        encryption_keys=sealing,
        **({"encryption": encryption} if encryption else {}),
    )
    async with (
        running_front(settings) as (_, port),
        AsyncClient(f"127.0.0.1:{port}", wait_when_busy=60) as client,
    ):
        yield client


@pytest.fixture
async def client(redis_url: str, recording: Recording) -> AsyncIterator[AsyncClient]:
    async with running_client(redis_url) as client:
        yield client


def worker_of(redis_url: str, folder: Path, host: Host) -> Process:
    command = [sys.executable, "-m", "miao_worker", *WORKER, "--redis-url", redis_url]
    kind, name = (ForkedProcess, "new") if host is HERE else (Process, "old")
    return kind(name, command, folder, "worker serving ", {"HF_HUB_OFFLINE": "1"}, host)


@pytest.fixture
async def worker(redis_url: str, recording: Recording, tmp_path: Path) -> AsyncIterator[Process]:
    worker = worker_of(redis_url, tmp_path, HERE)
    worker.start()
    yield worker
    worker.signal(signal.SIGTERM)
    await worker.wait_ended()


async def test_what_the_version_before_had_begun_is_ended_as_it_would_have_ended_it(
    client: AsyncClient, worker: Process, recording: Recording, redis_url: str
) -> None:
    before = {(name, state): recording.states[id_of(name, state)] for name, state in NAMES}
    assert Counter(before.values()) >= Counter(queued=10, running=9, finished=10)
    answers = await asyncio.gather(*(follow(client, *each) for each in NAMES))
    said = dict(zip(NAMES, answers, strict=True))
    assert said == {(name, state): recording.said[name] for name, state in NAMES}
    async for generation in client.list(page_size=1000):
        assert generation.state is GenerationState.FINISHED
        assert generation.attempt == (
            2 if recording.states[generation.generation_id] == "running" else 1
        )
    page = await client.usage_records(page_size=1000)
    assert Counter(record.generation_id for record in page.records) == dict.fromkeys(
        recording.states, 1
    )
    with Redis.from_url(redis_url) as redis:
        assert await wait_for_books(redis) == []


async def test_a_worker_of_the_version_before_goes_on_where_one_of_this_version_died(
    redis_url: str, tmp_path: Path
) -> None:
    try:
        host = Checkout(baseline.read().commit, tmp_path / "previous")
    except LookupError as error:
        pytest.skip(str(error))
    old, new = worker_of(redis_url, tmp_path, host), worker_of(redis_url, tmp_path, HERE)
    old.start()  # which takes longer
    new.start()
    try:
        await new.wait_ready()
        async with running_client(redis_url) as client:
            await begin(client)
            new.signal(signal.SIGKILL)
            answers = await asyncio.gather(*(follow(client, name, State.RUNNING) for name in SPECS))
            said = Recording.read(baseline.REDIS).said
            assert dict(zip(SPECS, answers, strict=True)) == said
            attempts = [generation.attempt async for generation in client.list(page_size=1000)]
            assert attempts.count(2) >= len(SPECS) - 1, old.tail()
            await old.wait_ready()
    finally:
        for each in (old, new):
            if each.runs:
                each.signal(signal.SIGTERM)
                await each.wait_ended()


async def test_the_same_request_at_a_front_of_the_next_version_is_the_same_generation(
    client: AsyncClient, recording: Recording
) -> None:
    for name, state in NAMES:
        prompt, options = SPECS[name]
        again = await client.create(prompt, request_id=f"{name}-{state}", **options)
        assert again.generation_id == id_of(name, state)
        found = await client.get(again.generation_id)
        assert found.state.value == recording.states[again.generation_id]


def id_of(name: str, state: State) -> str:
    return generation_id(TENANT, f"{name}-{state}")


async def follow(client: AsyncClient, name: str, state: State) -> list[int]:
    result = await client.follow(id_of(name, state)).result()
    return [i for answer in result.answers for i in answer.token_ids]


async def wait_for_books(redis: Any) -> list[str]:
    """What RQ still counts as waiting or running, once its books are up to date."""
    queues = keys.queue_names(MODEL)
    names = [*map(keys.queue_key, queues), *(f"rq:wip:{queue}" for queue in queues)]
    for _ in range(100):
        left = [name for name in names if redis.exists(name)]
        if not left:
            break
        await asyncio.sleep(0.05)
    return left
