"""Model cards and the presence of workers: what makes a model known to fronts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from miao.internal.v1.queue_pb2 import ModelCard
from miao_queue import keys, scripts


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How a model is served at this moment."""

    digest: str  # changes when the card does
    num_workers: int
    num_queued: int


class Presence:
    """A worker's announcement of the model that it serves."""

    def __init__(self, connection: Redis, card: ModelCard, worker: str) -> None:
        self._redis = connection
        self._card = card
        self._worker = worker
        self._renew = scripts.load(connection, "renew_presence")

    def publish(self) -> None:
        """Store the card, so that fronts can serve the model."""
        payload = self._card.SerializeToString(deterministic=True)
        digest = hashlib.sha256(payload).hexdigest()[:16]
        pipeline = self._redis.pipeline()
        pipeline.hset(keys.model(self._card.name), mapping={"card": payload, "digest": digest})
        pipeline.sadd(keys.MODELS, self._card.name)
        pipeline.execute()

    def renew(self, ttl_ms: int) -> None:
        """Say that this worker lives, for so long; forget those that have not for a while."""
        self._renew(args=[self._card.name, self._worker, ttl_ms])

    def withdraw(self) -> None:
        """Say that this worker takes no more. The card stays."""
        self._redis.zrem(keys.workers(self._card.name), self._worker)


async def model_names(connection: AsyncRedis) -> list[str]:
    """All models that workers have announced, by name."""
    names: Any = await connection.smembers(keys.MODELS)
    return sorted(name.decode() for name in names)


async def model_card(connection: AsyncRedis, name: str) -> ModelCard | None:
    """A model's card; None if no worker has announced it."""
    payload: Any = await connection.hget(keys.model(name), "card")
    return None if payload is None else ModelCard.FromString(payload)


async def model_status(connection: AsyncRedis, name: str) -> ModelStatus | None:
    """How a model is served now; None if no worker has announced it."""
    seconds, _ = await connection.time()
    pipeline = connection.pipeline(transaction=False)
    pipeline.hget(keys.model(name), "digest")
    pipeline.zcount(keys.workers(name), seconds * 1000, "+inf")
    for queue in keys.queue_names(name):
        pipeline.llen(keys.queue_key(queue))
    digest, num_workers, *queued = await pipeline.execute()
    if digest is None:
        return None
    return ModelStatus(digest.decode(), num_workers, sum(queued))
