"""What lies on several Redis, as one: models, the fleet, usage, audit and API keys."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import heapq
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1.fleet_service_pb2 import TenantQueue
from miao_queue.audit import Audit, AuditRecord
from miao_queue.cards import Cards, ModelStatus
from miao_queue.fleet import FleetStore, FleetView
from miao_queue.usage import DaySum, UsageRecord, UsageStore
from miao_service.auth.api_keys import ApiKey, ApiKeyStore
from miao_service.auth.key_stores import merge
from miao_service.places import AWAY, Place, Places

_T = TypeVar("_T")


class MergedCards:
    """The models of all Redis that answer."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._cards = {place: Cards(place.looks) for place in places.all}
        self._looks: dict[Place, asyncio.Future[dict[str, ModelStatus]]] = {}

    async def statuses(self) -> dict[str, ModelStatus]:
        """As of `Cards`: a worker serves all Redis, what waits lies on one."""
        replies = await self._places.ask(self._places.all, self._look)
        failures = []
        found: dict[str, ModelStatus] = {}
        for place, reply in replies.items():
            place.is_up = not isinstance(reply, Exception)
            if isinstance(reply, Exception):
                failures.append(reply)
                continue
            for name, status in reply.items():
                found[name] = _together(found.get(name), status)
        if len(failures) == len(replies):
            raise failures[0]
        return found

    async def card(self, name: str) -> ModelCard | None:
        """A model's card, wherever it is."""
        replies = await self._places.ask(self._up, lambda place: self._cards[place].card(name))
        return next((r for r in replies.values() if isinstance(r, ModelCard)), None)

    async def forget(self, name: str, unseen_ms: int) -> bool:
        """Forget a model everywhere; False where one has something that waits for it."""
        replies = await self._places.ask(
            self._places.all, lambda place: self._cards[place].forget(name, unseen_ms)
        )
        return all(reply is True for reply in replies.values())

    @property
    def _up(self) -> list[Place]:
        return [place for place in self._places.all if place.is_up]

    async def _look(self, place: Place) -> dict[str, ModelStatus]:
        """One look at a time: a Redis that is silent is not asked again meanwhile."""
        known = self._looks.get(place)
        if known is None or known.done():
            known = self._looks[place] = self._places.begin(self._cards[place].statuses())
        return await asyncio.shield(known)


class MergedFleet:
    """The workers and queues of all Redis."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stores = {place: FleetStore(place.commands) for place in places.all}

    async def look(self) -> FleetView:
        """What is going on, of those that answer."""
        replies = await self._places.ask(self._places.all, lambda place: self._stores[place].look())
        views = [reply for reply in replies.values() if isinstance(reply, FleetView)]
        if not views:
            raise next(reply for reply in replies.values() if isinstance(reply, Exception))
        workers = {worker.name: worker for view in views for worker in view.workers}
        queues: dict[tuple[str, str], TenantQueue] = {}
        for each in (queue for view in views for queue in view.queues):
            total = queues.setdefault(
                (each.tenant, each.model), TenantQueue(tenant=each.tenant, model=each.model)
            )
            total.num_waiting += each.num_waiting
            total.longest_wait_ms = max(total.longest_wait_ms, each.longest_wait_ms)
        return FleetView(
            max(view.time_ms for view in views),
            sorted(workers.values(), key=lambda worker: (worker.model, worker.name)),
            sorted(queues.values(), key=lambda queue: -queue.num_waiting),
        )


class MergedUsage:
    """What tenants took, on all Redis. A bill without one of them would be wrong: then it fails."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stores = {place: UsageStore(place.commands) for place in places.all}

    async def tenants(self) -> list[str]:
        """All that ever had something end."""
        found = await self._places.of_all(lambda place: self._stores[place].tenants())
        return sorted({name for names in found for name in names})

    async def records(self, tenant: str, after: str, count: int) -> list[UsageRecord]:
        """As of `UsageStore`; a cursor has one for each Redis, so that none is left out."""
        cursors = _Cursors.read(after)
        found = await self._places.of_all(
            lambda place: self._named(
                place, self._stores[place].records(tenant, cursors.of(place.name), count)
            )
        )
        rows = heapq.merge(
            *([(place.name, record) for record in records] for place, records in found),
            key=lambda row: _order(row[1].cursor),
        )
        return [
            dataclasses.replace(record, cursor=cursors.moved(name, record.cursor))
            for (name, record), _ in zip(rows, range(count), strict=False)
        ]

    async def sums(self, tenant: str, days: Sequence[int]) -> list[DaySum]:
        """A tenant's sums on these days, by day and model."""
        totals: dict[tuple[int, str], DaySum] = {}
        for sums in await self._places.of_all(lambda place: self._stores[place].sums(tenant, days)):
            for each in sums:
                known = totals.get((each.day, each.model))
                totals[each.day, each.model] = each if known is None else _sum(known, each)
        return [totals[key] for key in sorted(totals)]

    async def trim(self, before_ms: int) -> None:
        """Forget old records wherever that can be done now."""
        await self._places.ask(
            self._places.all, lambda place: UsageStore(place.looks).trim(before_ms)
        )

    async def _named(self, place: Place, rows: Awaitable[_T]) -> tuple[Place, _T]:
        return place, await rows


class MergedAudit:
    """Who did what, written to one Redis that is up, read from all."""

    def __init__(self, places: Places, max_entries: int) -> None:
        self._places = places
        self._audits = {place: Audit(place.looks, max_entries) for place in places.all}

    @property
    def num_dropped(self) -> int:
        """Since the last look."""
        return sum(audit.num_dropped for audit in self._audits.values())

    @num_dropped.setter
    def num_dropped(self, count: int) -> None:
        for audit in self._audits.values():
            audit.num_dropped = count

    def note(self, record: AuditRecord) -> None:
        """Write it with the next batch."""
        self._audits[self._places.first].note(record)

    async def flush(self) -> None:
        """Write what waits, wherever that can be done now."""
        await self._places.ask(self._places.all, lambda place: self._audits[place].flush())

    async def newest(self, count: int, before: str = "") -> list[tuple[str, AuditRecord]]:
        """As of `Audit`, of all Redis."""
        cursors = _Cursors.read(before)
        found = await self._places.of_all(
            lambda place: self._page(place, count, cursors.of(place.name))
        )
        rows = heapq.merge(*found, key=lambda row: _order(row[1]), reverse=True)
        return [
            (cursors.moved(name, cursor), record)
            for (name, cursor, record), _ in zip(rows, range(count), strict=False)
        ]

    async def _page(
        self, place: Place, count: int, before: str
    ) -> list[tuple[str, str, AuditRecord]]:
        rows = await self._audits[place].newest(count, before)
        return [(place.name, cursor, record) for cursor, record in rows]


class MergedKeys:
    """API keys, which are on every Redis: what one knows holds, and a revocation that one knows."""

    def __init__(self, ask: Callable[..., Awaitable[Any]], stores: Mapping[Any, ApiKeyStore]):
        """`ask`: as of `Places`, with these stores' keys for places."""
        self._ask = ask
        self._stores = stores

    async def find(self, key_id: str) -> ApiKey | None:
        """A key by its id; raises where it is not found, and not all have answered."""
        replies = await self._ask(self._stores, lambda place: self._stores[place].find(key_id))
        return together(replies.values())

    async def note_use(self, key_id: str) -> None:
        """Keep, wherever that can be done now, that the key was used."""
        await self._ask(self._stores, lambda place: self._stores[place].note_use(key_id))


def together(found: Iterable[ApiKey | Exception | None]) -> ApiKey | None:
    """What several know of one key: whether any knows that it was revoked, and its last use."""
    replies = list(found)
    known = [reply for reply in replies if isinstance(reply, ApiKey)]
    if not known:
        for reply in replies:
            if isinstance(reply, AWAY):
                raise reply
        return None
    return merge(known)


class _Cursors:
    """How far a list is read on each Redis, as one word."""

    def __init__(self, by_name: dict[str, str], others: str = "") -> None:
        self._by_name = by_name
        self._others = others

    @classmethod
    def read(cls, text: str) -> _Cursors:
        """ValueError for what is none. One of a single Redis stands for all."""
        if text.replace("-", "", 1).isdigit() or not text:
            return cls({}, text)
        try:
            known = json.loads(base64.urlsafe_b64decode(text.encode()))
        except (binascii.Error, UnicodeError, ValueError):
            raise ValueError("not a cursor of this list") from None
        if not isinstance(known, dict) or not all(isinstance(v, str) for v in known.values()):
            raise ValueError("not a cursor of this list")
        return cls({name: value for name, value in known.items() if name}, known.get("", ""))

    def of(self, name: str) -> str:
        return self._by_name.get(name, self._others)

    def moved(self, name: str, cursor: str) -> str:
        """The word for this one having been read up to here, and the others as before."""
        self._by_name[name] = cursor
        known = {"": self._others} | self._by_name
        return base64.urlsafe_b64encode(json.dumps(known).encode()).decode()


def _order(cursor: str) -> tuple[int, int]:
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds), int(number)


def _together(known: ModelStatus | None, status: ModelStatus) -> ModelStatus:
    if known is None:
        return status
    best = known if known.num_workers >= status.num_workers else status
    return dataclasses.replace(
        best,
        num_queued=known.num_queued + status.num_queued,
        unseen_ms=min(known.unseen_ms, status.unseen_ms),
    )


def _sum(one: DaySum, other: DaySum) -> DaySum:
    return DaySum(
        one.tenant,
        one.day,
        one.model,
        one.requests + other.requests,
        one.prompt_tokens + other.prompt_tokens,
        one.cached_prompt_tokens + other.cached_prompt_tokens,
        one.output_tokens + other.output_tokens,
    )
