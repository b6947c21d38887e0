"""The audit: who did what at the fronts, and what they were refused; bounded.

Written behind the calls, many at once: a call never waits for it, and a refused one, or a
flood of them, costs Redis next to nothing. A front that is killed takes half a second of it
along; what was accepted and ended stands in the usage records besides, exactly.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio import Redis

from miao_queue import keys

CREATE_API_KEY, REVOKE_API_KEY = "CreateApiKey", "RevokeApiKey"  # of `miao keys`
KEPT = 100_000  # records, where nothing else is said

_MOST_WAITING = 10_000
_BATCH = 500


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One call, or one use of `miao keys`.

    action: the method's name, or one of those above.
    outcome: "OK", or the reason of the refusal.
    target: the generation or API key that it was about; empty where it was about none.
    """

    time_ms: int
    tenant: str
    credential: str
    action: str
    outcome: str
    target: str = ""

    def fields(self) -> dict[Any, Any]:
        """As an entry of the stream."""
        return {
            "t": self.time_ms,
            "tenant": self.tenant,
            "credential": self.credential,
            "action": self.action,
            "outcome": self.outcome,
            "target": self.target,
        }


class AuditTrail(Protocol):
    """A front's side of it, on one Redis or on several."""

    num_dropped: int

    def note(self, record: AuditRecord) -> None: ...

    async def flush(self) -> None: ...

    async def newest(self, count: int, before: str = "") -> list[tuple[str, AuditRecord]]: ...


class Audit:
    """A front's side of it."""

    def __init__(self, connection: Redis, max_entries: int) -> None:
        """`max_entries`: kept in Redis, of all fronts; 0 writes nothing."""
        self._redis: Any = connection
        self._max_entries = max_entries
        self._waiting: deque[AuditRecord] = deque()
        self.num_dropped = 0  # since the last look, for Redis did not take them

    def note(self, record: AuditRecord) -> None:
        """Write it with the next batch."""
        if not self._max_entries:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
            self.num_dropped += 1
        self._waiting.append(record)

    async def flush(self) -> None:
        """Write what waits. What cannot be written waits on."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            pipeline = self._redis.pipeline(transaction=False)
            for record in batch:
                kept = self._max_entries
                pipeline.xadd(keys.AUDIT, record.fields(), maxlen=kept, approximate=True)
            try:
                await pipeline.execute()
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                raise

    async def newest(self, count: int, before: str = "") -> list[tuple[str, AuditRecord]]:
        """The last records with their cursors, the newest first; ValueError for a bad cursor."""
        if before and not before.replace("-", "", 1).isdigit():
            raise ValueError("not a cursor of this list")
        end = f"({before}" if before else "+"
        rows = await self._redis.xrevrange(keys.AUDIT, end, "-", count=count)
        return [(entry_id.decode(), _record(fields)) for entry_id, fields in rows]


def _record(fields: dict[bytes, bytes]) -> AuditRecord:
    text = {key.decode(): value.decode() for key, value in fields.items()}
    return AuditRecord(
        int(text["t"]),
        *(text[name] for name in ("tenant", "credential", "action", "outcome", "target")),
    )
