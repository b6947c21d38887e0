"""One stream's place in a journal, and what waits for its reader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from miao_queue import events
from miao_queue.events import Position
from miao_service.errors import FrontError, JournalLostError

Entry = tuple[Position, bytes]


def order(position: Position) -> tuple[int, bool]:
    """Positions compare by this: the end of a journal lies behind its last token."""
    return position.tokens, position.ended


class CatchUp(Protocol):
    """Where a follower that lags gets its entries."""

    async def catch_up(self, follower: Follower) -> None: ...


class Follower:
    """Takes entries from the journal reader, gives them to the stream.

    position: how far the journal is read for this stream.
    seen: how many tokens its caller has, or will have from what waits here. It
        lies ahead of position only where the journal holds less than the caller
        has seen: entries up to it are dropped.
    """

    def __init__(
        self,
        generation_id: str,
        position: Position,
        seen: int,
        limit_bytes: int,
        reader: CatchUp,
    ) -> None:
        self.generation_id = generation_id
        self.position = position
        self.seen = seen
        self.confirmed = True  # that the generation exists
        self.is_live = False
        self.has_ended = False
        self._limit_bytes = limit_bytes
        self._reader = reader
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._may_straddle = seen > 0
        self._failure: FrontError | None = None
        self._changed = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """What waits for the reader of this stream."""
        return self._waiting_bytes

    def take(self, entries: Iterable[Entry]) -> None:
        """Keep the entries behind this one's position, until its buffer is full."""
        for position, payload in entries:
            if self.has_ended or self._waiting_bytes > self._limit_bytes:
                break
            if order(position) > order(self.position):
                self.position = position
                self._keep(position, payload)
        if self._waiting_bytes > self._limit_bytes:
            self.is_live = False
        self._changed.set()

    def fail(self, error: FrontError) -> None:
        """End the stream with an error, after what waits; the first one counts."""
        if not self.has_ended:
            self._failure = error
            self.has_ended = True
            self._changed.set()

    def expect_rewrite(self, num_tokens: int) -> None:
        """Allow for a journal that was read from a Redis that has since come back.

        It holds so many tokens now. What is written again may be cut at other
        places than before.
        """
        self._may_straddle = True
        if num_tokens < self.position.tokens:
            self.position = Position(num_tokens)

    async def next_batch(self) -> list[bytes]:
        """The next events; empty at the end. Raises what the stream fails with."""
        while True:
            self._changed.clear()
            if self._waiting:
                batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
                return batch
            if self._failure is not None:
                raise self._failure
            if self.has_ended:
                return []
            if self.is_live:
                await self._changed.wait()
            else:
                await self._reader.catch_up(self)

    def _keep(self, position: Position, payload: bytes) -> None:
        if position.ended:
            if position.tokens < self.seen:
                self.fail(JournalLostError())
                return
            self.has_ended = True
        elif position.tokens <= self.seen:
            return
        elif self._may_straddle:
            self._may_straddle = False
            payload = events.after(payload, self.seen) or b""
        self.seen = position.tokens
        self._waiting.append(payload)
        self._waiting_bytes += len(payload)
