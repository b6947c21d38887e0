"""What the fleet is doing: workers publish their state, fronts read all of it together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from miao.v1.fleet_service_pb2 import FleetWorker, TenantQueue
from miao_queue import keys

_MOST_WAITING = 5000  # that are looked at


@dataclass(frozen=True, slots=True)
class FleetView:
    """The live workers, and what waits."""

    time_ms: int
    workers: Sequence[FleetWorker]
    queues: Sequence[TenantQueue]


def publish(connection: Redis, state: FleetWorker, now_ms: int, ttl_ms: int) -> None:
    """Let those who watch see a worker's state, for so long."""
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.set(keys.worker(state.name), state.SerializeToString(), px=ttl_ms)
        pipeline.zadd(keys.FLEET, {state.name: now_ms + ttl_ms})
        pipeline.zremrangebyscore(keys.FLEET, "-inf", now_ms)
        pipeline.execute()


def withdraw(connection: Redis, name: str) -> None:
    """A worker has ended."""
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.delete(keys.worker(name))
        pipeline.zrem(keys.FLEET, name)
        pipeline.execute()


class FleetStore:
    """A front's view of the fleet."""

    def __init__(self, connection: AsyncRedis) -> None:
        self._redis: Any = connection  # its annotations mix what both kinds of client return

    async def look(self) -> FleetView:
        """What is going on, in three round trips."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        pipeline.zrange(keys.FLEET, 0, -1)
        pipeline.zrange(keys.WAITING, 0, _MOST_WAITING - 1)
        (seconds, microseconds), names, waiting = await pipeline.execute()
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        workers = await self._workers([name.decode() for name in names])
        queues = await self._queues([each.decode() for each in waiting], now_ms)
        return FleetView(now_ms, workers, queues)

    async def _workers(self, names: Sequence[str]) -> list[FleetWorker]:
        states = await self._redis.mget([keys.worker(name) for name in names]) if names else []
        found = [FleetWorker.FromString(state) for state in states if state is not None]
        return sorted(found, key=lambda worker: (worker.model, worker.name))

    async def _queues(self, waiting: Sequence[str], now_ms: int) -> list[TenantQueue]:
        pipeline = self._redis.pipeline(transaction=False)
        for generation_id in waiting:
            pipeline.hmget(keys.generation(generation_id), "tenant", "model", "accept_ms")
        found: dict[tuple[bytes, bytes], TenantQueue] = {}
        for tenant, model, accept_ms in await pipeline.execute() if waiting else []:
            if tenant is None:
                continue  # it has expired
            names = {"tenant": tenant.decode(), "model": model.decode()}
            queue = found.setdefault((tenant, model), TenantQueue(**names))
            queue.num_waiting += 1
            queue.longest_wait_ms = max(queue.longest_wait_ms, now_ms - int(accept_ms))
        return sorted(found.values(), key=lambda queue: -queue.num_waiting)
