"""One blocking read for all the journals that this front follows.

Every stream of the front has a `Follower`. The live ones, those that have read
their journals to the end, share one XREAD over all journals and the front's
own wake stream; what it returns is handed to them as the bytes it is. One that
lags, because it begins in the middle or because its reader stalls, leaves the
shared read and catches up by itself, as fast as its reader takes what is there.
So a reader that stalls costs at most its buffer, and stops nobody.

    follow ──► lagging ──(nothing more to catch up)──► live
                  ▲                                      │
                  ├──────(more than its buffer waits)────┤
                  └──────(Redis was away)────────────────┘

A generation that nobody here follows yet is followed from the start and live at
once: its submission rings the wake stream in the same step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from miao_queue import events, keys, scripts
from miao_queue.events import Position
from miao_queue.telemetry.faults import describe
from miao_queue.vault import PLAIN, UnreadableError, Vault, journal_place
from miao_service.errors import (
    FrontError,
    GenerationLostError,
    QueueUnavailableError,
    UnreadableJournalError,
)
from miao_service.follower import Entry, Follower, order
from miao_service.journal_connection import JournalConnection, Word

logger = logging.getLogger(__name__)

_BLOCK_MS = 2000
_ENTRIES_PER_READ = 64  # of each journal
_QUIET_SECONDS = 10.0  # after which a silent journal is looked at: is it still there?
_RESTORE_SECONDS = 3.0  # in which a worker that lives restores what Redis has forgotten
_BACKOFF_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

Reply = Iterable[tuple[bytes, list[Any]]]


class JournalReader:
    """Reads journals for all followers of this process."""

    def __init__(
        self,
        client: Redis,
        front_id: str,
        buffer_bytes: int,
        answer_seconds: float,
        outage_seconds: float,
        vault: Vault = PLAIN,
    ) -> None:
        """Start nothing yet; `run` reads.

        Args:
            client: of the reader's own; one of its connections blocks all the time.
            front_id: names the wake stream.
            buffer_bytes: what may wait for one stream's reader.
            answer_seconds: how long Redis may take for an answer.
            outage_seconds: how long followers wait for Redis to return.
            vault: opens what lies sealed in journals.
        """
        self._connection = JournalConnection(client)
        self._redis: Any = client
        self._front_id = front_id
        self._wake_script = scripts.load_async(client, "wake")
        self._wake_key = keys.front(front_id).encode()
        self._wake_id = b"0-0"
        self._buffer_bytes = buffer_bytes
        self._answer_seconds = answer_seconds
        self._outage_seconds = outage_seconds
        self._vault = vault
        self._feeds: dict[bytes, list[Follower]] = {}
        self._last_entry: dict[bytes, float] = {}
        self._missing_since: dict[bytes, float] = {}
        self._answered_at = time.monotonic()
        self._back_at = -math.inf  # when Redis had come back, by the monotonic clock
        self._is_verified = asyncio.Event()  # that journals are those that were read before

    @property
    def num_followers(self) -> int:
        """How many streams are open."""
        return sum(len(followers) for followers in self._feeds.values())

    @property
    def may_restore(self) -> bool:
        """Whether workers may still be writing what Redis forgot.

        So while Redis is away, and for a while after it came back.
        """
        is_new = time.monotonic() - self._back_at < _RESTORE_SECONDS
        return is_new or not self._is_verified.is_set()

    def is_followed(self, generation_id: str) -> bool:
        """Whether a stream of this front follows a generation."""
        return keys.journal(generation_id).encode() in self._feeds

    def follow(
        self, generation_id: str, *, seen: int = 0, digest: int | None = None, exists: bool
    ) -> Follower:
        """A new follower; `leave` must end it.

        Args:
            generation_id: whose journal.
            seen: how many tokens the caller has.
            digest: of the output up to there, if the caller knows it.
            exists: whether the generation is known to exist already.
        """
        key = keys.journal(generation_id).encode()
        follower = Follower(generation_id, seen, self._buffer_bytes, self, digest)
        follower.confirmed = exists
        follower.is_live = not exists and key not in self._feeds
        self._feeds.setdefault(key, []).append(follower)
        self._last_entry[key] = time.monotonic()
        return follower

    def leave(self, follower: Follower) -> None:
        """Forget a follower."""
        key = keys.journal(follower.generation_id).encode()
        followers = self._feeds.get(key, [])
        if follower in followers:
            followers.remove(follower)
        if not followers:
            self._feeds.pop(key, None)
            self._last_entry.pop(key, None)
            self._missing_since.pop(key, None)

    def fail_all(self, error: FrontError) -> None:
        """End all streams with an error."""
        for follower in self._followers():
            follower.fail(error)

    async def catch_up(self, follower: Follower) -> None:
        """Hand a lagging follower its next entries; make it live where there are none."""
        if not self._is_verified.is_set():
            await self._until_verified()
        if follower.needs_anchor:
            await self._anchor(follower)
            return
        key = keys.journal(follower.generation_id)
        begin, count = f"({follower.position.entry_id}", follower.num_wanted(_ENTRIES_PER_READ)
        reply = await self._patiently("XRANGE", key, begin, "+", "COUNT", count)
        if follower.needs_anchor:
            return  # Redis was away meanwhile
        if reply:
            self._hand([follower], reply)
            return
        follower.is_live = True
        await self._wake()

    async def _anchor(self, follower: Follower) -> None:
        """Find the place in the journal from which a doubted one is read."""
        follower.needs_anchor = False  # before it is looked up: a doubt that comes meanwhile counts
        key, limit = keys.journal(follower.generation_id), Position(follower.seen).entry_id
        reply = await self._patiently("XREVRANGE", key, limit, "-", "COUNT", 1)
        try:
            follower.anchor(next(self._entries(follower.generation_id, reply), None))
        except UnreadableError as error:
            follower.fail(UnreadableJournalError(error))

    async def run(self) -> None:
        """Read for ever, whatever happens."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._answer_seconds):
                    await self._verify(self._feeds)
                if failures:
                    self._back_at = time.monotonic()
                self._is_verified.set()
                while True:
                    async with asyncio.timeout(_BLOCK_MS / 1000 + self._answer_seconds):
                        await self._read_once()
                    failures, self._answered_at = 0, time.monotonic()
            except (RedisError, OSError, TimeoutError) as error:
                if not failures:
                    logger.warning("reading journals failed: %s", type(error).__name__)
            except Exception as error:
                logger.error("reading journals failed unexpectedly: %s", describe(error))
            finally:
                self._is_verified.clear()
                await self._connection.drop()
            if time.monotonic() - self._answered_at > self._outage_seconds:
                self.fail_all(QueueUnavailableError())
            await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
            failures += 1

    async def _read_once(self) -> None:
        cursors = self._cursors()
        options: list[Word] = ["COUNT", _ENTRIES_PER_READ, "BLOCK", _BLOCK_MS]
        positions = [position.entry_id for position in cursors.values()]
        reply = await self._connection.ask(
            "XREAD", *options, "STREAMS", self._wake_key, *cursors, self._wake_id, *positions
        )
        now = time.monotonic()
        for key, entries in _streams(reply):
            if key == self._wake_key:
                self._wake_id = entries[-1][0]
            elif key in self._feeds:
                self._last_entry[key] = now
                self._missing_since.pop(key, None)
                self._deliver(key, cursors[key], entries)
        await self._verify_quiet(now)

    def _cursors(self) -> dict[bytes, Position]:
        """Where the shared read begins in each journal: at its hindmost live follower."""
        cursors: dict[bytes, Position] = {}
        for key, followers in self._feeds.items():
            for follower in followers:
                if not follower.is_live or follower.has_ended:
                    continue
                known = cursors.get(key)
                if known is None or order(follower.position) < order(known):
                    cursors[key] = follower.position
        return cursors

    def _deliver(self, key: bytes, begin: Position, raw: list[Any]) -> None:
        # One that became live meanwhile, further back, waits for the next read.
        self._hand(
            [
                follower
                for follower in self._feeds[key]
                if follower.is_live and order(follower.position) >= order(begin)
            ],
            raw,
        )

    def _hand(self, followers: list[Follower], raw: list[Any]) -> None:
        """Give entries to followers of one journal; what cannot be read ends their streams."""
        if not followers:
            return
        try:
            entries = list(self._entries(followers[0].generation_id, raw))
        except UnreadableError as error:
            for follower in followers:
                follower.fail(UnreadableJournalError(error))
            return
        for follower in followers:
            follower.take(entries)

    def _entries(self, generation_id: str, raw: list[Any]) -> Iterator[Entry]:
        if not self._vault.opens:
            return _entries(raw)
        return (
            (position, self._vault.open(generation_id, journal_place(position.entry_id), payload))
            for position, payload in _entries(raw)
        )

    async def _verify_quiet(self, now: float) -> None:
        limit = now - _QUIET_SECONDS
        quiet = [key for key, last in self._last_entry.items() if last < limit]
        self._last_entry.update(dict.fromkeys(quiet, now))
        await self._verify(quiet)

    async def _verify(self, feeds: Iterable[bytes]) -> None:
        """Look what Redis still has, after a gap in the reading or a long silence.

        Redis may have lost the end of a journal, or all of it. A worker that
        lives writes it again, perhaps cut differently.
        """
        followers = [f for key in feeds for f in self._feeds[key] if f.confirmed]
        if not followers:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for follower in followers:
            pipeline.exists(keys.generation(follower.generation_id))
        for follower, exists in zip(followers, await pipeline.execute(), strict=True):
            key = keys.journal(follower.generation_id).encode()
            if follower.has_ended or key not in self._feeds:
                continue
            if exists:
                self._missing_since.pop(key, None)
            elif self._is_missing_for_long(key):
                follower.fail(GenerationLostError())
            follower.doubt()

    def _is_missing_for_long(self, key: bytes) -> bool:
        now = time.monotonic()
        since = self._missing_since.setdefault(key, now)
        self._last_entry[key] = now - _QUIET_SECONDS + _RESTORE_SECONDS  # looked at again by then
        return now - since >= _RESTORE_SECONDS

    async def _until_verified(self) -> None:
        try:
            async with asyncio.timeout(self._outage_seconds):
                await self._is_verified.wait()
        except TimeoutError:
            raise QueueUnavailableError from None

    async def _wake(self) -> None:
        """Make the shared read begin anew, now."""
        try:
            await asyncio.shield(self._wake_script(args=[self._front_id]))
        except (RedisError, OSError, TimeoutError):
            return  # the reader sees the outage too, or begins anew by itself soon

    async def _patiently(self, *command: Any) -> Any:
        """Ask Redis, again and again while it is away, up to the limit."""
        try:
            async with asyncio.timeout(self._outage_seconds):
                while True:
                    # Shielded: inside redis-py a cancellation can get lost (asyncio.wait_for
                    # of Python 3.11), and a stream whose caller left would never end.
                    with contextlib.suppress(RedisError, OSError):
                        return await asyncio.shield(self._redis.execute_command(*command))
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            raise QueueUnavailableError from error

    def _followers(self) -> list[Follower]:
        return [follower for followers in self._feeds.values() for follower in followers]


def _streams(reply: Any) -> Reply:
    """The streams of a reply, under either version of the protocol."""
    if reply is None:
        return ()
    return reply.items() if isinstance(reply, dict) else reply


def _entries(raw: list[Any]) -> Iterator[Entry]:
    for entry_id, fields in raw:
        # Raw fields are a flat list; those that the client has read, a mapping.
        payload = fields[events.FIELD] if isinstance(fields, dict) else fields[1]
        yield Position.of_entry(entry_id), payload
