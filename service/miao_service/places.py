"""The Redis that a front works with, one or several, and on which of them what lies.

A generation lies where the hash of its id says, and where its tenant's limits are counted, where
the hash of the tenant's name says: what is counted in one step has to lie on one Redis. While a
Redis comes or goes an id may have two places. Then the other is asked first, and barred
in the same step, so that two fronts of which one knows of the change never accept it twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from miao_queue import records
from miao_queue.addresses import Shard, ShardMap, ShardState
from miao_queue.records import Record, Submission
from miao_queue.store import GenerationStore, Page
from miao_service.errors import FrontError, QueueUnavailableError, ShardUnavailableError
from miao_service.journal_reader import JournalReader
from miao_service.policies import PolicyFile

logger = logging.getLogger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
_MOST_BARRED_MS = 3_600_000
_CLOSE_SECONDS = 0.5
_DRAWS = 32  # of a request id whose place is well

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class Place:
    """One Redis as a front works with it."""

    shard: Shard
    commands: Redis
    looks: Redis
    journals: Redis
    store: GenerationStore
    waiting: GenerationStore  # on connections that no burst of calls holds up
    reader: JournalReader
    is_up: bool = True  # at the last look

    @property
    def name(self) -> str:
        return self.shard.name

    async def close(self) -> None:
        """Hang up."""
        for client in (self.commands, self.journals, self.looks):
            await client.aclose()


class Places:
    """Finds the place of a generation."""

    def __init__(
        self,
        shard_map: ShardMap,
        places: Sequence[Place],
        policies: PolicyFile,
        timeout_seconds: float,
    ) -> None:
        """`places`: one for each shard of the map."""
        self.all = list(places)
        self.only = places[0] if len(places) == 1 else None
        self._map = shard_map
        self._by_name = {place.name: place for place in places}
        self._policies = policies
        self._timeout = timeout_seconds
        self._under_way: set[asyncio.Future[Any]] = set()

    @property
    def first(self) -> Place:
        """The first of the list that admits, of those that are up; else the first that admits."""
        admitting = [place for place in self.all if place.shard.admits]
        return next((place for place in admitting if place.is_up), admitting[0])

    @property
    def may_restore(self) -> bool:
        """Whether workers may still be writing what one of them forgot."""
        return any(place.reader.may_restore for place in self.all)

    @property
    def num_followers(self) -> int:
        """How many streams are open."""
        return sum(place.reader.num_followers for place in self.all)

    def fail_all(self, error: FrontError) -> None:
        """End all streams with an error."""
        for place in self.all:
            place.reader.fail_all(error)

    def is_followed(self, generation_id: str) -> bool:
        """Whether a stream of this front follows a generation."""
        return any(place.reader.is_followed(generation_id) for place in self.all)

    def draw_request_id(self, tenant: str) -> str:
        """A request id where the caller has given none; one whose place is up, if there is any."""
        request_id = secrets.token_urlsafe(16)
        if self.only is not None:
            return request_id
        for _ in range(_DRAWS):
            generation_id = records.generation_id(tenant, request_id)
            if self._candidates(self._key(tenant, generation_id))[0].is_up:
                break
            request_id = secrets.token_urlsafe(16)
        return request_id

    async def of(self, submission: Submission) -> Place:
        """Where a submission belongs, or is already.

        ShardUnavailableError where that one is known to be down, and another is not.
        """
        if self.only is not None:
            return self.only
        tenant, generation_id = submission.tenant, submission.generation_id
        place, *earlier = self._candidates(self._key(tenant, generation_id))
        if not place.is_up and self.first.is_up:
            raise ShardUnavailableError
        # Its tenant may have been given its first limit, or have lost its last, since.
        strays = self._other_candidates(tenant, generation_id) if self._policies.is_set else []
        strays = [other for other in strays if other is not place and other not in earlier]
        if not (earlier or strays):
            return place
        async with asyncio.timeout(self._timeout):
            found = await self._among(earlier, submission, place)
            if found is None and strays:
                found = await self._stray(strays, generation_id)
        return found or place

    async def find(self, generation_id: str, tenant: str) -> tuple[Place, Record] | None:
        """A tenant's generation and its place.

        QueueUnavailableError where it may lie on a Redis that does not answer.
        """
        if self.only is not None:
            async with asyncio.timeout(self._timeout):
                # Shielded: inside redis-py a cancellation can get lost.
                record = await asyncio.shield(self.only.store.get(generation_id, tenant))
            return None if record is None else (self.only, record)
        likely = [*self._candidates(self._key(tenant, generation_id)), *self.all]
        first, *others = dict.fromkeys(likely)

        async def get(place: Place) -> Record | None:
            return await place.store.get(generation_id, tenant)

        has_failed = False
        for group in ([first], others):
            for place, reply in (await self.ask(group, get)).items():
                if isinstance(reply, Record):
                    return place, reply
                has_failed = has_failed or isinstance(reply, Exception)
        if has_failed:
            raise QueueUnavailableError
        return None

    async def list_page(self, page_size: int, cursor: str | None, tenant: str) -> Page:
        """As a store's, of all."""
        if self.only is not None:
            return await self.only.store.list_page(page_size, cursor, tenant)
        pages = await self.of_all(lambda place: place.store.list_page(page_size, cursor, tenant))
        # What a page's cursor has not come to yet may lie between what others list.
        ends = [_order_of(page.next_cursor) for page in pages if page.next_cursor is not None]
        bound = max(ends, default=(0, ""))
        listed = sorted((r for page in pages for r in page.records), key=_order, reverse=True)
        kept = [record for record in listed if _order(record) >= bound][:page_size]
        rest = len(kept) < len(listed)
        if not ends and not rest:
            return Page(kept, None)
        last = _order(kept[-1]) if len(kept) == page_size else bound
        return Page(kept, f"{last[0]}:{last[1]}")

    async def ask(
        self, places: Iterable[Place], question: Callable[[Place], Awaitable[_T]]
    ) -> dict[Place, _T | Exception]:
        """What each answers, or what went wrong; who is silent holds nobody up for long."""

        async def one(place: Place) -> _T | Exception:
            # Shielded: inside redis-py a cancellation can get lost.
            asking = self.begin(question(place))
            try:
                async with asyncio.timeout(self._timeout / 2):
                    return await asyncio.shield(asking)
            except AWAY as error:
                return error

        asked = list(places)
        return dict(zip(asked, await asyncio.gather(*map(one, asked)), strict=True))

    async def of_all(self, question: Callable[[Place], Awaitable[_T]]) -> list[_T]:
        """What all answer; raises the first failure: a part would be taken for the whole."""
        found = []
        for reply in (await self.ask(self.all, question)).values():
            if isinstance(reply, Exception):
                raise reply
            found.append(reply)
        return found

    def begin(self, question: Awaitable[_T]) -> asyncio.Future[_T]:
        """Ask beside whoever waits for it; `close` waits for the answer."""
        asking = asyncio.ensure_future(question)
        self._under_way.add(asking)
        asking.add_done_callback(self._under_way.discard)
        asking.add_done_callback(_notice)
        return asking

    async def close(self) -> None:
        """Hang up, when all that was asked is answered or given up."""
        pending = set(self._under_way)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=_CLOSE_SECONDS)
        while pending:  # a cancellation may get lost
            for asking in pending:
                asking.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)
        for place in self.all:
            await place.close()

    def _key(self, tenant: str, generation_id: str) -> str:
        return f"tenant {tenant}" if self._policies.policies.counts(tenant) else generation_id

    def _candidates(self, key: str) -> list[Place]:
        return [self._by_name[shard.name] for shard in self._map.candidates(key)]

    def _other_candidates(self, tenant: str, generation_id: str) -> list[Place]:
        """Where it would lie if its tenant's limits were counted, where they are not; or not."""
        is_counted = self._policies.policies.counts(tenant)
        return self._candidates(generation_id if is_counted else f"tenant {tenant}")

    async def _among(
        self, earlier: Sequence[Place], submission: Submission, place: Place
    ) -> Place | None:
        """Where it is already, of the places that a change may have left it on."""
        generation_id = submission.generation_id
        kept_ms = submission.timeout_ms + 1000 * submission.retention_seconds
        for other in earlier:
            if other.shard.state is ShardState.JOINING:  # fronts that know more accept there
                if await other.store.has(generation_id):
                    return other
                continue
            ttl_ms = min(_MOST_BARRED_MS, kept_ms)
            where = await other.store.bar(generation_id, place.name, ttl_ms)
            if where is None:
                return other
            known = self._by_name.get(where)
            if known is not None and known is not place and await known.store.has(generation_id):
                return known
        return None

    async def _stray(self, strays: Sequence[Place], generation_id: str) -> Place | None:
        replies = await self.ask(strays, lambda place: place.store.has(generation_id))
        return next((place for place, reply in replies.items() if reply is True), None)


def _notice(asked: asyncio.Future[_T]) -> None:
    """Take notice of how it ended, so that asyncio does not complain."""
    if not asked.cancelled():
        asked.exception()


def _order(record: Record) -> tuple[int, str]:
    return record.accept_ms, record.generation_id


def _order_of(cursor: str) -> tuple[int, str]:
    score, _, name = cursor.partition(":")
    return int(score), name
