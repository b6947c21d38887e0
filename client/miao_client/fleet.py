"""What operators and accountants ask: the fleet's state, the audit, and what tenants took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from miao.v1 import fleet_service_pb2 as fleets
from miao.v1 import usage_service_pb2 as usages
from miao_client import responses, results
from miao_client.errors import NotFoundError
from miao_client.methods import Method, Operation


@dataclass(frozen=True, slots=True)
class FleetModel:
    """A model, as all fronts see it."""

    name: str
    num_workers: int
    num_queued: int


@dataclass(frozen=True, slots=True)
class FleetWorker:
    """A worker's state, at most a second old. What is counted begins with the worker."""

    name: str
    model: str
    start_time: datetime
    is_draining: bool
    num_generations: int
    num_running: int
    max_running: int  # the most that a batch holds
    num_waiting: int
    cache_usage: float  # used share of the KV cache, 0 to 1
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int
    output_tokens_per_second: float
    num_ended: int
    num_takeovers: int
    num_engine_restarts: int
    first_token_ms_p50: int | None
    first_token_ms_p95: int | None


@dataclass(frozen=True, slots=True)
class TenantQueue:
    """What a tenant has waiting for a model."""

    tenant: str
    model: str
    num_waiting: int
    longest_wait_ms: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the fleet is doing at one moment."""

    time: datetime
    models: tuple[FleetModel, ...]
    workers: tuple[FleetWorker, ...]
    queues: tuple[TenantQueue, ...]


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What a tenant took of a model on a day."""

    tenant: str
    day: date
    model: str
    num_requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one generation, or request to an encoder, took."""

    generation_id: str
    request_id: str
    model: str
    accept_time: datetime
    end_time: datetime
    num_attempts: int
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int
    reason: results.FinishReason


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Records, and where the next ones are read from, also where there are none yet."""

    records: tuple[UsageRecord, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A call that changed or read something, or was refused."""

    time: datetime
    tenant: str
    credential: str  # which one; no secret
    action: str
    outcome: str
    generation_id: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Audit records, the newest first; an empty token says that these are the last."""

    records: tuple[AuditRecord, ...]
    next_page_token: str


def get_fleet() -> Operation[Fleet]:
    """What the fleet is doing."""
    return Operation(_method("Fleet", "GetFleet", fleets), fleets.GetFleetRequest(), _fleet)


def sum_usage(
    first_day: date | None, last_day: date | None, tenant: str | None, all_tenants: bool
) -> Operation[tuple[UsageSum, ...]]:
    """What was taken, by tenant, day and model."""
    request = usages.SumUsageRequest(
        first_day=first_day.isoformat() if first_day else "",
        last_day=last_day.isoformat() if last_day else "",
        tenant=tenant or "",
        all_tenants=all_tenants,
    )
    return Operation(
        _method("Usage", "SumUsage", usages),
        request,
        lambda answer: tuple(map(_usage_sum, answer.sums)),
    )


def list_usage(page_size: int, page_token: str, tenant: str | None) -> Operation[UsagePage]:
    """What each generation took, the oldest first."""
    request = usages.ListUsageRecordsRequest(
        page_size=page_size, page_token=page_token, tenant=tenant or ""
    )
    return Operation(_method("Usage", "ListUsageRecords", usages), request, _usage_page)


def list_audit(page_size: int, page_token: str) -> Operation[AuditPage]:
    """Who did what, the newest first."""
    request = fleets.ListAuditRecordsRequest(page_size=page_size, page_token=page_token)
    return Operation(_method("Fleet", "ListAuditRecords", fleets), request, _audit_page)


def _method(service: str, name: str, module: Any) -> Method:
    response: type[Message] = getattr(module, f"{name}Response")
    return Method(f"/miao.v1.{service}Service/{name}", response, NotFoundError)


def _fleet(answer: fleets.GetFleetResponse) -> Fleet:
    return Fleet(
        time=_time(answer.time),
        models=tuple(
            FleetModel(each.name, each.num_workers, each.num_queued) for each in answer.models
        ),
        workers=tuple(map(_worker, answer.workers)),
        queues=tuple(
            TenantQueue(each.tenant, each.model, each.num_waiting, each.longest_wait_ms)
            for each in answer.queues
        ),
    )


def _worker(message: fleets.FleetWorker) -> FleetWorker:
    def optional(field: str) -> int | None:
        return int(getattr(message, field)) if message.HasField(field) else None

    return FleetWorker(
        name=message.name,
        model=message.model,
        start_time=_time(message.start_time),
        is_draining=message.is_draining,
        num_generations=message.num_generations,
        num_running=message.num_running,
        max_running=message.max_running,
        num_waiting=message.num_waiting,
        cache_usage=message.cache_usage,
        prompt_tokens=message.prompt_tokens,
        cached_prompt_tokens=message.cached_prompt_tokens,
        output_tokens=message.output_tokens,
        output_tokens_per_second=message.output_tokens_per_second,
        num_ended=message.num_ended,
        num_takeovers=message.num_takeovers,
        num_engine_restarts=message.num_engine_restarts,
        first_token_ms_p50=optional("first_token_ms_p50"),
        first_token_ms_p95=optional("first_token_ms_p95"),
    )


def _usage_sum(message: usages.UsageSum) -> UsageSum:
    return UsageSum(
        tenant=message.tenant,
        day=date.fromisoformat(message.day),
        model=message.model,
        num_requests=message.num_requests,
        prompt_tokens=message.prompt_tokens,
        cached_prompt_tokens=message.cached_prompt_tokens,
        output_tokens=message.output_tokens,
    )


def _usage_page(answer: usages.ListUsageRecordsResponse) -> UsagePage:
    return UsagePage(tuple(map(_usage_record, answer.records)), answer.next_page_token)


def _usage_record(message: usages.UsageRecord) -> UsageRecord:
    return UsageRecord(
        generation_id=message.generation_id,
        request_id=message.request_id,
        model=message.model,
        accept_time=_time(message.accept_time),
        end_time=_time(message.end_time),
        num_attempts=message.num_attempts,
        prompt_tokens=message.usage.prompt_tokens,
        cached_prompt_tokens=message.usage.cached_prompt_tokens,
        output_tokens=message.usage.output_tokens,
        reason=responses.finish_reason(message.reason),
    )


def _audit_page(answer: fleets.ListAuditRecordsResponse) -> AuditPage:
    records = tuple(
        AuditRecord(
            time=_time(each.time),
            tenant=each.tenant,
            credential=each.credential,
            action=each.action,
            outcome=each.outcome,
            generation_id=each.generation_id,
        )
        for each in answer.records
    )
    return AuditPage(records, answer.next_page_token)


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)
