"""What waits for longer than it may ends at that time, also where no worker ever looks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc


async def create(front: Any, **limits: Any) -> str:
    request = rpc.CreateGenerationRequest(spec=pb.GenerationSpec(prompt="hello", **limits))
    return str((await front.generations.CreateGeneration(request)).generation.generation_id)


async def get(front: Any, generation_id: str) -> pb.Generation:
    request = rpc.GetGenerationRequest(generation_id=generation_id)
    return (await front.generations.GetGeneration(request)).generation  # type: ignore[no-any-return]


async def follow(front: Any, generation_id: str) -> list[pb.GenerationEvent]:
    call = front.generations.FollowGeneration(
        rpc.FollowGenerationRequest(generation_id=generation_id)
    )
    return [response.event async for response in call]


@pytest.mark.parametrize("limit", ["queue_timeout", "timeout"])
async def test_it_ends_by_itself_for_whoever_looks_or_follows(
    start_front: Any, worker: Any, database: Any, limit: str
) -> None:
    worker.presence.withdraw()
    async with start_front(queue_without_worker=True) as front, start_front() as other:
        began = time.monotonic()
        overdue = await create(front, **{limit: {"nanos": 400_000_000}})
        patient = await create(front, queue_timeout={"seconds": 60})
        last = (await asyncio.wait_for(follow(other, overdue), 15))[-1]
        assert time.monotonic() - began >= 0.4
        assert last.finished.reason == pb.FINISH_REASON_DEADLINE_EXCEEDED
        assert (await get(front, overdue)).finished == last.finished
        assert (await get(front, patient)).state == pb.GENERATION_STATE_QUEUED
        assert database.lrange("rq:queue:tiny:normal", 0, -1) == [patient.encode()]


async def test_it_goes_on_after_redis_was_away(
    start_front: Any, worker: Any, redis_server: Any
) -> None:
    worker.redis.config_set("appendfsync", "always")
    async with start_front() as front:
        overdue = await create(front, queue_timeout={"seconds": 1})
        redis_server.kill()
        await asyncio.sleep(1.2)
        redis_server.start()
        last = (await asyncio.wait_for(follow(front, overdue), 15))[-1]
        assert last.finished.reason == pb.FINISH_REASON_DEADLINE_EXCEEDED
