"""Usage, audit and fleet as callers ask for them, and who may."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from miao.v1 import fleet_service_pb2 as fleets
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import usage_service_pb2 as usages
from miao.v1.fleet_service_pb2_grpc import FleetServiceStub
from miao.v1.generation_service_pb2_grpc import GenerationServiceStub
from miao.v1.usage_service_pb2_grpc import UsageServiceStub
from miao_queue import fleet
from miao_service.auth.authenticator import Authenticator, Credentials
from miao_service.auth.identity import ALL_SCOPES, Identity, Scope
from miao_service.front import running_front
from miao_service.settings import ServiceSettings


class ByName:
    """Callers show their name; "ops" may operate."""

    async def verify(self, credentials: Credentials) -> Identity | None:
        name = credentials.bearer
        if not name:
            return None
        scopes = ALL_SCOPES | {Scope.OPERATE} if name == "ops" else ALL_SCOPES
        return Identity(name, scopes, f"key:{name}")


class Caller:
    """The stubs with one caller's name in each call."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._metadata = [("authorization", f"Bearer {name}")]

    def __getattr__(self, method: str) -> Any:
        for stub in (FleetServiceStub, UsageServiceStub, GenerationServiceStub):
            found = getattr(stub(self._channel), method, None)
            if found is not None:
                return lambda request: found(request, metadata=self._metadata)
        raise AttributeError(method)


@pytest.fixture
async def channel(redis_url: str, worker: Any) -> Any:
    settings = ServiceSettings(
        listen="127.0.0.1:0", redis_url=redis_url, drain_seconds=0.2, refresh_seconds=0.05
    )
    async with (
        running_front(settings, Authenticator([ByName()])) as (_, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield channel


async def generate(caller: Caller, worker: Any, text: str = "abc") -> str:
    stream = caller.Generate(rpc.GenerateRequest(spec=pb.GenerationSpec(prompt="hello")))
    await worker.answer(text)
    events = [response.event async for response in stream]
    return str(events[0].accepted.generation_id)


async def test_a_tenant_sees_what_it_took_and_no_other_does(
    channel: Any, worker: Any, refused: Any
) -> None:
    ann, bob, ops = (Caller(channel, name) for name in ("ann", "bob", "ops"))
    generation = await generate(ann, worker)
    await generate(bob, worker, "abcdef")
    page = await ann.ListUsageRecords(usages.ListUsageRecordsRequest())
    assert [record.generation_id for record in page.records] == [generation]
    (record,) = page.records
    assert (record.usage.prompt_tokens, record.usage.output_tokens) == (5, 3)
    assert record.reason == pb.FINISH_REASON_STOP
    on = usages.ListUsageRecordsRequest(page_token=page.next_page_token)
    assert not (await ann.ListUsageRecords(on)).records
    (total,) = (await ann.SumUsage(usages.SumUsageRequest())).sums
    assert (total.tenant, total.model, total.num_requests) == ("ann", "tiny", 1)
    assert (total.prompt_tokens, total.output_tokens) == (5, 3)
    for request in ({"tenant": "bob"}, {"all_tenants": True}):
        refusal = await refused(ann.SumUsage(usages.SumUsageRequest(**request)))
        assert (refusal.code.name, refusal.reason) == ("PERMISSION_DENIED", "MISSING_SCOPE")
    refusal = await refused(ann.ListUsageRecords(usages.ListUsageRecordsRequest(tenant="bob")))
    assert refusal.reason == "MISSING_SCOPE"
    everybody = await ops.SumUsage(usages.SumUsageRequest(all_tenants=True))
    assert {each.tenant: each.output_tokens for each in everybody.sums} == {"ann": 3, "bob": 6}
    bobs = await ops.SumUsage(usages.SumUsageRequest(tenant="bob"))
    assert [each.output_tokens for each in bobs.sums] == [6]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"first_day": "yesterday"}, "first_day"),
        ({"last_day": "2026-13-01"}, "last_day"),
        ({"first_day": "2026-01-02", "last_day": "2026-01-01"}, "first_day"),
        ({"first_day": "2025-01-01", "last_day": "2026-01-01"}, "first_day"),
    ],
)
async def test_days_that_are_none_are_refused(
    channel: Any, refused: Any, request_: dict[str, str], field: str
) -> None:
    refusal = await refused(Caller(channel, "ann").SumUsage(usages.SumUsageRequest(**request_)))
    assert refusal.fields == [field]


async def test_a_token_that_is_none_of_ours_is_refused(channel: Any, refused: Any) -> None:
    request = usages.ListUsageRecordsRequest(page_token="*")
    assert (await refused(Caller(channel, "ann").ListUsageRecords(request))).fields == [
        "page_token"
    ]


async def test_the_audit_says_who_did_what_and_what_was_refused(
    channel: Any, worker: Any, refused: Any
) -> None:
    ann, ops = Caller(channel, "ann"), Caller(channel, "ops")
    generation = await generate(ann, worker)
    await ann.CancelGeneration(rpc.CancelGenerationRequest(generation_id=generation))
    secret = "what ann asked for"
    wrong = pb.GenerationSpec(prompt=secret, max_tokens=10**6)
    await refused(ann.Generate(rpc.GenerateRequest(spec=wrong)))
    await refused(Caller(channel, "").Generate(rpc.GenerateRequest(spec=wrong)))
    await refused(ann.ListAuditRecords(fleets.ListAuditRecordsRequest()))
    page = await ops.ListAuditRecords(fleets.ListAuditRecordsRequest())
    said = [
        (each.tenant, each.credential, each.action, each.outcome, each.generation_id)
        for each in page.records
    ]
    assert said == [
        ("ann", "key:ann", "ListAuditRecords", "MISSING_SCOPE", ""),
        ("", "", "Generate", "BAD_CREDENTIALS", ""),
        ("ann", "key:ann", "Generate", "INVALID_REQUEST", ""),
        ("ann", "key:ann", "CancelGeneration", "OK", generation),
        ("ann", "key:ann", "Generate", "OK", generation),
    ]
    assert secret not in str(page)
    newest = await ops.ListAuditRecords(fleets.ListAuditRecordsRequest(page_size=2))
    assert [each.action for each in newest.records][1] == "ListAuditRecords"
    on = fleets.ListAuditRecordsRequest(page_size=2, page_token=newest.next_page_token)
    assert [each.outcome for each in (await ops.ListAuditRecords(on)).records] == [
        *("BAD_CREDENTIALS", "INVALID_REQUEST")
    ]


async def test_an_operator_sees_models_workers_and_what_waits_by_tenant(
    channel: Any, worker: Any, refused: Any
) -> None:
    state = fleets.FleetWorker(name="w1", model="tiny", num_running=3, max_running=8)
    now_ms = int(worker.redis.time()[0]) * 1000
    fleet.publish(worker.redis, state, now_ms, 60_000)
    for name, count in (("ann", 1), ("bob", 2)):
        for _ in range(count):
            request = rpc.CreateGenerationRequest(spec=pb.GenerationSpec(prompt="hello"))
            await Caller(channel, name).CreateGeneration(request)
    seen = await Caller(channel, "ops").GetFleet(fleets.GetFleetRequest())
    assert [(each.name, each.num_workers, each.num_queued) for each in seen.models] == [
        ("tiny", 1, 3)
    ]
    assert list(seen.workers) == [state]
    assert [(each.tenant, each.model, each.num_waiting) for each in seen.queues] == [
        ("bob", "tiny", 2),
        ("ann", "tiny", 1),
    ]
    fleet.withdraw(worker.redis, "w1")
    assert not (await Caller(channel, "ops").GetFleet(fleets.GetFleetRequest())).workers
    refusal = await refused(Caller(channel, "ann").GetFleet(fleets.GetFleetRequest()))
    assert refusal.reason == "MISSING_SCOPE"
