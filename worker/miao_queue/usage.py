"""What tenants took, for their bills: written by the scripts that end generations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from miao_queue import keys


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One generation's. Its cursor is where the next ones are read from."""

    cursor: str
    tenant: str
    generation_id: str
    request_id: str
    model: str
    accept_ms: int
    end_ms: int
    attempts: int
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class DaySum:
    """A tenant's usage of a model on a day, counted since 1970 in UTC."""

    tenant: str
    day: int
    model: str
    requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int


class UsageStore:
    """A front's view of what was taken."""

    def __init__(self, connection: Redis) -> None:
        self._redis: Any = connection  # its annotations mix what both kinds of client return

    async def tenants(self) -> list[str]:
        """All that ever had something end, as far back as is kept."""
        return sorted(name.decode() for name in await self._redis.smembers(keys.USAGE_TENANTS))

    async def records(self, tenant: str, after: str, count: int) -> list[UsageRecord]:
        """A tenant's next records behind a cursor, the oldest first; "" begins at the first.

        ValueError for what is no cursor.
        """
        start = "-"
        if after:
            if not after.replace("-", "", 1).isdigit():
                raise ValueError("not a cursor of this list")
            start = f"({after}"
        rows = await self._redis.xrange(keys.usage(tenant), start, "+", count=count)
        return [_record(tenant, entry_id.decode(), fields) for entry_id, fields in rows]

    async def sums(self, tenant: str, days: Sequence[int]) -> list[DaySum]:
        """A tenant's sums on these days, by day and model."""
        pipeline = self._redis.pipeline(transaction=False)
        for day in days:
            pipeline.hgetall(keys.usage_day(tenant, day))
        replies = await pipeline.execute() if days else []
        return [
            total
            for day, fields in zip(days, replies, strict=True)
            for total in _day_sums(tenant, day, fields)
        ]

    async def trim(self, before_ms: int) -> None:
        """Forget the records, not the sums, of what ended before a time."""
        pipeline = self._redis.pipeline(transaction=False)
        for tenant in await self.tenants():
            pipeline.xtrim(keys.usage(tenant), minid=before_ms, approximate=True)
        await pipeline.execute()


def _record(tenant: str, cursor: str, fields: Mapping[bytes, bytes]) -> UsageRecord:
    prompt, cached, output, reason = fields[b"usage"].decode().split(" ")
    return UsageRecord(
        cursor=cursor,
        tenant=tenant,
        generation_id=fields[b"id"].decode(),
        request_id=fields[b"request_id"].decode(),
        model=fields[b"model"].decode(),
        accept_ms=int(fields[b"accept_ms"]),
        end_ms=int(fields[b"end_ms"]),
        attempts=int(fields[b"attempts"]),
        prompt_tokens=int(prompt),
        cached_prompt_tokens=int(cached),
        output_tokens=int(output),
        reason=reason,
    )


def _day_sums(tenant: str, day: int, fields: Mapping[bytes, bytes]) -> list[DaySum]:
    found: dict[str, dict[str, int]] = {}
    for field, value in fields.items():
        kind, _, model = field.decode().partition(":")
        found.setdefault(model, {})[kind] = int(value)
    return [
        DaySum(
            tenant,
            day,
            model,
            counts.get("requests", 0),
            counts.get("prompt", 0),
            counts.get("cached", 0),
            counts.get("output", 0),
        )
        for model, counts in sorted(found.items())
    ]
