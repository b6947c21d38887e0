"""Model cards and the presence of workers: what makes a model known to fronts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
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
    unseen_ms: int = 0  # since a worker last served it


@dataclass(frozen=True, slots=True)
class _Announced:
    """A card as it is stored, and what it says of whose tokens go on here."""

    card: ModelCard
    payload: bytes
    digest: str

    @classmethod
    def of(cls, card: ModelCard) -> _Announced:
        payload = card.SerializeToString(deterministic=True)
        return cls(card, payload, hashlib.sha256(payload).hexdigest()[:16])

    @property
    def words(self) -> tuple[str, str, str, str]:
        card = self.card
        return card.name, self.digest, card.vocabulary_digest, card.weights_digest


class Presence:
    """A worker's announcement of the models that it serves. Thread-safe."""

    def __init__(self, connection: Redis, card: ModelCard, worker: str) -> None:
        self._redis = connection
        self._worker = worker
        self._announced = {card.name: _Announced.of(card)}
        self._is_withdrawn = False
        self._renew = scripts.load(connection, "renew_presence")
        self._withdraw = scripts.load(connection, "withdraw_presence")

    def add(self, card: ModelCard, ttl_ms: int) -> None:
        """Announce one more model."""
        entry = _Announced.of(card)
        self._announced = self._announced | {card.name: entry}
        if not self._is_withdrawn:
            self._announce([entry], ttl_ms)

    def remove(self, name: str) -> None:
        """Say that this worker takes no more of one model."""
        entry = self._announced[name]
        self._announced = {n: a for n, a in self._announced.items() if n != name}
        self._withdraw(args=[self._worker, *entry.words])

    def announce(self, ttl_ms: int) -> None:
        """Store the cards and say that this worker stands behind them, in one step."""
        self._is_withdrawn = False
        self._announce(list(self._announced.values()), ttl_ms)

    def publish(self) -> None:
        """Store the cards, so that fronts know the models."""
        with self._redis.pipeline() as pipeline:
            self._publish(pipeline, self._announced.values())
            pipeline.execute()

    def renew(self, ttl_ms: int, pace: tuple[float, float] | None = None) -> None:
        """Say that this worker lives, for so long, and how fast it is.

        `pace`: the most tokens a second, and the share of the most output that is said.

        A card that Redis has lost, or that no live worker stands behind any more,
        is replaced by this worker's own.
        """
        entries = list(self._announced.values())
        words = [word for entry in entries for word in entry.words]
        told = "" if pace is None else f"{pace[0]:.3f} {pace[1]:.4f}"
        reply = self._renew(args=[self._worker, ttl_ms, told, *words])
        unpublished = {name.decode() for name in reply}
        if unpublished:
            with self._redis.pipeline() as pipeline:
                self._publish(pipeline, (e for e in entries if e.card.name in unpublished))
                pipeline.execute()

    def withdraw(self) -> None:
        """Say that this worker takes no more. The cards stay."""
        self._is_withdrawn = True
        words = [word for entry in list(self._announced.values()) for word in entry.words]
        self._withdraw(args=[self._worker, *words])

    def _announce(self, entries: Sequence[_Announced], ttl_ms: int) -> None:
        with self._redis.pipeline() as pipeline:
            self._publish(pipeline, entries)
            words = [word for entry in entries for word in entry.words]
            self._renew(args=[self._worker, ttl_ms, "", *words], client=pipeline)
            pipeline.execute()

    def _publish(self, pipeline: Any, announced: Iterable[_Announced]) -> None:
        for entry in announced:
            name = entry.card.name
            fields = {
                "card": entry.payload,
                "digest": entry.digest,
                "vocabulary": entry.card.vocabulary_digest,
            }
            pipeline.hset(keys.model(name), mapping=fields)
            pipeline.sadd(keys.MODELS, name)


class Cards:
    """A front's view of the announced models."""

    def __init__(self, connection: AsyncRedis) -> None:
        self._redis: Any = connection  # its annotations mix what both kinds of client return
        self._forget = scripts.load_async(connection, "forget_model")

    async def statuses(self) -> dict[str, ModelStatus]:
        """How each announced model is served now, by name; two round trips for all."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.smembers(keys.MODELS)
        pipeline.time()
        members, (seconds, _) = await pipeline.execute()
        names = sorted(name.decode() for name in members)
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hmget(keys.model(name), "digest", "seen_ms")
            pipeline.zcount(keys.workers(name), seconds * 1000, "+inf")
            for queue in keys.queue_names(name):
                pipeline.llen(keys.queue_key(queue))
        replies = await pipeline.execute() if names else []
        size = 2 + len(keys.PRIORITIES)
        rows = (replies[i : i + size] for i in range(0, len(replies), size))
        found = {name: _status(row, seconds * 1000) for name, row in zip(names, rows, strict=True)}
        return {name: status for name, status in found.items() if status is not None}

    async def card(self, name: str) -> ModelCard | None:
        """A model's card; None if no worker has announced it."""
        payload = await self._redis.hget(keys.model(name), "card")
        return None if payload is None else ModelCard.FromString(payload)

    async def forget(self, name: str, unseen_ms: int) -> bool:
        """Forget a model that no worker has served for so long, unless something waits for it."""
        return bool(await self._forget(args=[name, unseen_ms]))


def _status(row: Sequence[Any], now_ms: int) -> ModelStatus | None:
    (digest, seen_ms), num_workers, *queued = row
    if digest is None:
        return None
    unseen_ms = 0 if seen_ms is None else max(0, now_ms - int(seen_ms))
    return ModelStatus(digest.decode(), num_workers, sum(queued), unseen_ms)
