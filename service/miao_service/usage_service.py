"""UsageService: what tenants took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from miao.v1 import generation_pb2 as pb
from miao.v1 import usage_service_pb2 as rpc
from miao_queue.usage import DaySum, UsageRecord
from miao_service.auth.authenticator import require
from miao_service.auth.identity import Scope
from miao_service.errors import InvalidRequestError
from miao_service.handlers import Call
from miao_service.settings import ServiceSettings

DEFAULT_PAGE_SIZE = 100
_MOST_DAYS = 100
_EPOCH = date(1970, 1, 1)


class UsageSource(Protocol):
    """What was taken, on one Redis or on several."""

    async def tenants(self) -> list[str]: ...

    async def records(self, tenant: str, after: str, count: int) -> list[UsageRecord]: ...

    async def sums(self, tenant: str, days: Sequence[int]) -> list[DaySum]: ...


class UsageServicer:
    """Answers UsageService. One method for each of the contract's."""

    def __init__(self, settings: ServiceSettings, store: UsageSource) -> None:
        self._store = store
        self._redis_timeout = settings.redis_timeout_seconds

    async def sum_usage(self, request: rpc.SumUsageRequest, call: Call) -> rpc.SumUsageResponse:
        days = _days(request)
        async with asyncio.timeout(self._redis_timeout):
            if request.all_tenants:
                require(call.identity, Scope.OPERATE)
                tenants = await self._store.tenants()
            else:
                tenants = [_tenant(request.tenant, call)]
            sums = [each for name in tenants for each in await self._store.sums(name, days)]
        return rpc.SumUsageResponse(sums=map(_sum_message, sums))

    async def list_usage_records(
        self, request: rpc.ListUsageRecordsRequest, call: Call
    ) -> rpc.ListUsageRecordsResponse:
        tenant, count = _tenant(request.tenant, call), request.page_size or DEFAULT_PAGE_SIZE
        async with asyncio.timeout(self._redis_timeout):
            try:
                records = await self._store.records(tenant, request.page_token, count)
            except ValueError:
                text = "must be the next_page_token of another page, or empty"
                raise InvalidRequestError.of("page_token", text) from None
        return rpc.ListUsageRecordsResponse(
            records=map(_record_message, records),
            next_page_token=records[-1].cursor if records else request.page_token,
        )


def _tenant(name: str, call: Call) -> str:
    """Whose usage is asked for; MissingScopeError where that is another's."""
    if name and name != call.tenant:
        require(call.identity, Scope.OPERATE)
        return name
    return call.tenant


def _days(request: rpc.SumUsageRequest) -> list[int]:
    """The days that are asked for, counted since 1970."""
    last = _day(request.last_day, "last_day") or datetime.now(UTC).date()
    first = _day(request.first_day, "first_day") or last
    count = (last - first).days + 1
    if not 1 <= count <= _MOST_DAYS:
        text = f"must lie within the {_MOST_DAYS} days that end on last_day"
        raise InvalidRequestError.of("first_day", text)
    return [(first - _EPOCH).days + offset for offset in range(count)]


def _day(text: str, field: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidRequestError.of(field, 'must be a day such as "2026-11-28"') from None


def _sum_message(total: DaySum) -> rpc.UsageSum:
    return rpc.UsageSum(
        tenant=total.tenant,
        day=(_EPOCH + timedelta(days=total.day)).isoformat(),
        model=total.model,
        num_requests=total.requests,
        prompt_tokens=total.prompt_tokens,
        cached_prompt_tokens=total.cached_prompt_tokens,
        output_tokens=total.output_tokens,
    )


def _record_message(record: UsageRecord) -> rpc.UsageRecord:
    return rpc.UsageRecord(
        generation_id=record.generation_id,
        request_id=record.request_id,
        model=record.model,
        accept_time=_time(record.accept_ms),
        end_time=_time(record.end_ms),
        num_attempts=record.attempts,
        usage=pb.Usage(
            prompt_tokens=record.prompt_tokens,
            cached_prompt_tokens=record.cached_prompt_tokens,
            output_tokens=record.output_tokens,
        ),
        reason=f"FINISH_REASON_{record.reason.upper()}",
    )


def _time(ms: int) -> Timestamp:
    result = Timestamp()
    result.FromMilliseconds(ms)
    return result
