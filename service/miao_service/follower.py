"""One stream's place in a journal, and what waits for its reader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from miao_queue import events
from miao_queue.events import Position
from miao_service.errors import FrontError, JournalLostError, OutputChangedError

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
        lies ahead of position only while the journal is doubted: entries up to
        it are compared with what was seen, and dropped.

    A journal is doubted where it may not be the one that the caller has seen
    the beginning of: at the start of a stream that does not begin at 0, and
    after Redis came back, perhaps with less, which a worker then wrote again.
    The doubt ends with the first entry that reaches `seen`:

        before       the entry that reaches seen
        |--------|------------|-----------|
                           seen            what is sent begins here; the digest
                                           of all up to here must be the known one
    """

    def __init__(
        self,
        generation_id: str,
        seen: int,
        limit_bytes: int,
        reader: CatchUp,
        digest: int | None = None,
    ) -> None:
        self.generation_id = generation_id
        self.position = Position(0)
        self.seen = seen
        self.confirmed = True  # that the generation exists
        self.is_live = False
        self.has_ended = False
        self.needs_anchor = seen > 0
        self._limit_bytes = limit_bytes
        self._reader = reader
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_doubted = seen > 0
        self._digest = digest  # of what the caller had seen at the start, if it says so
        self._last = b""  # the last event of tokens that was kept
        self._before = b""  # while doubted: the entry at position
        self._failure: FrontError | None = None
        self._changed = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """What waits for the reader of this stream."""
        return self._waiting_bytes

    def num_wanted(self, most: int) -> int:
        """How many entries to fetch next: as many as fit, if they are like the last."""
        return max(1, min(most, self._limit_bytes // max(1, len(self._last))))

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

    def doubt(self) -> None:
        """Allow for a journal that was written again, and read it anew from its anchor."""
        if self.seen > 0:
            self._is_doubted = self.needs_anchor = True
            self.is_live = False
            self._changed.set()

    def anchor(self, entry: Entry | None) -> None:
        """Go on behind this entry, the journal's last that does not lie beyond `seen`."""
        self.position, self._before = Position(0), b""
        if entry is not None:
            self.take([entry])

    def begin_again(self) -> None:
        """Go on after `fail`: the generation that was lost is being made again."""
        self.has_ended, self._failure = False, None
        self.is_live = False
        self.doubt()

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
        elif position.tokens < self.seen:
            self._before = payload
            return
        else:
            if self._is_doubted:
                rest = self._continued(payload)
                if rest is None:
                    return
                payload = rest
            self._last = payload
        self.seen = position.tokens
        self._waiting.append(payload)
        self._waiting_bytes += len(payload)

    def _continued(self, payload: bytes) -> bytes | None:
        """What an entry that reaches `seen` has beyond it, where all before is what was seen."""
        known = events.decode(self._last).output_digest if self._last else self._digest
        if known is not None and known != _digest_at(self.seen, payload, self._before):
            self.fail(OutputChangedError())
            return None
        self._is_doubted, self._before = False, b""
        return events.after(payload, self.seen)


def _digest_at(sequence_number: int, payload: bytes, before: bytes) -> int:
    """The output's digest at a place within an event, or at its end.

    `before` is the event that ends where this one begins; empty at the start.
    """
    event = events.decode(payload)
    if event.sequence_number == sequence_number:
        return event.output_digest
    token_ids = event.tokens.token_ids
    first = event.sequence_number - len(token_ids)
    start = events.decode(before).output_digest
    return events.digest(token_ids[: sequence_number - first], start)
