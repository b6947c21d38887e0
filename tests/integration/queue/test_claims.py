"""Claims: what is lost is counted, what waits too long ends, what is forgotten is restored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, events, keys
from miao_queue.claims import (
    Append,
    Claim,
    ClaimStore,
    Crashes,
    Entry,
    QueueSource,
    Suspended,
    WriteCode,
    WriteResult,
)
from miao_queue.records import Record, Status, Submission
from miao_queue.store import Admission, GenerationStore

OPEN = Admission(backlog_limit=100, require_worker=False)
QUEUES = [QueueSource(name, "m") for name in keys.queue_names("m")]
LEASE_MS = 50


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[GenerationStore]:
    client = connection.connect_async(redis_url)
    yield GenerationStore(client, "front-1")
    await client.aclose()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


async def submit(
    store: GenerationStore, request_id: str = "r", priority: str = "normal", **changes: int
) -> str:
    limits = {"timeout_ms": 60_000, "queue_timeout_ms": 60_000, "retention_seconds": 60} | changes
    submission = Submission(
        request_id=request_id,
        model="m",
        job=Job(prompt_token_ids=[1, 2], max_tokens=9),
        accepted=pb.Accepted(request_id=request_id, num_prompt_tokens=2),
        fingerprint="f",
        priority=priority,
        **limits,  # type: ignore[arg-type]
    )
    return (await store.submit(submission, OPEN)).generation_id


def claimed(claims: ClaimStore, owner: str) -> Claim:
    claim = claims.claim(QUEUES, owner)
    assert isinstance(claim, Claim)
    return claim


def entry(first: int, last: int) -> Entry:
    token_ids = list(range(first, last))
    message = pb.Tokens(token_ids=token_ids, text_lengths=[0] * len(token_ids))
    return Entry(first, last, events.tokens(last, 1, message, events.digest(range(last))))


async def test_a_lost_worker_is_counted_and_whether_it_ran_alone(
    store: GenerationStore, redis: Redis
) -> None:
    await submit(store)
    claims = ClaimStore(redis, "w", LEASE_MS)
    first = claimed(claims, "o1")
    assert (first.record.crashes, first.record.crashed_alone) == (0, False)
    await asyncio.sleep(2 * LEASE_MS / 1000)
    assert [reaped.owner for reaped in claims.reap(1)] == ["o1"]
    second = claimed(claims, "o2")
    assert (second.record.crashes, second.record.crashed_alone) == (1, False)
    claims.note_crashes([(second, Crashes(2, alone=False, runs_alone=True))])
    claims.note_crashes([(first, Crashes(9, alone=True))])  # fenced
    await asyncio.sleep(2 * LEASE_MS / 1000)
    claims.reap(1)
    third = claimed(claims, "o3")
    assert (third.record.crashes, third.record.crashed_alone) == (3, True)
    claims.release([third])
    assert claimed(claims, "o4").record.crashes == 3  # given back, not lost


async def test_the_most_urgent_comes_first_and_within_a_queue_the_oldest(
    store: GenerationStore, redis: Redis
) -> None:
    names = ["low", "normal", "high"]
    ids = {f"{n}{i}": await submit(store, f"{n}{i}", n) for i in range(2) for n in names}
    claims = ClaimStore(redis, "w", LEASE_MS)
    order = [claimed(claims, f"o{i}").record.generation_id for i in range(6)]
    assert order == [ids[f"{name}{i}"] for name in reversed(names) for i in range(2)]


async def test_one_reaper_at_a_time(store: GenerationStore, redis: Redis) -> None:
    await submit(store)
    claims = ClaimStore(redis, "w", 1)
    claimed(claims, "o1")
    await asyncio.sleep(0.01)
    assert len(claims.reap(60_000)) == 1
    claimed(claims, "o2")
    await asyncio.sleep(0.01)
    assert claims.reap(60_000) == []


async def test_what_waits_too_long_ends_at_its_time(store: GenerationStore, redis: Redis) -> None:
    late = await submit(store, "late", queue_timeout_ms=1)
    patient = await submit(store, "patient")
    await asyncio.sleep(0.01)
    assert sum(await asyncio.gather(*(store.expire_overdue() for _ in range(4)))) == 1
    record = await store.get(late)
    assert record is not None
    assert record.finished is not None
    assert record.finished.reason == pb.FINISH_REASON_DEADLINE_EXCEEDED
    claims = ClaimStore(redis, "w", LEASE_MS)
    assert claimed(claims, "o1").record.generation_id == patient
    assert claims.claim(QUEUES, "o2") is None
    assert redis.zcard(keys.WAITING) == 0


async def test_a_requeued_generation_waits_until_its_deadline(
    store: GenerationStore, redis: Redis
) -> None:
    generation_id = await submit(store, queue_timeout_ms=1)
    claims = ClaimStore(redis, "w", LEASE_MS)
    claims.release([claimed(claims, "o1")])
    assert await store.expire_overdue() == 0
    record = await store.get(generation_id)
    assert record is not None
    assert record.status is Status.QUEUED


async def test_nothing_is_claimed_while_rq_is_suspended(
    store: GenerationStore, redis: Redis
) -> None:
    await submit(store)
    redis.set("rq:suspended", 1)
    claims = ClaimStore(redis, "w", LEASE_MS)
    assert isinstance(claims.claim(QUEUES, "o1"), Suspended)
    redis.delete("rq:suspended")
    claimed(claims, "o1")


async def test_a_forgotten_generation_is_restored_as_its_worker_remembers_it(
    store: GenerationStore, redis: Redis
) -> None:
    generation_id = await submit(store)
    claims = ClaimStore(redis, "w", 60_000)
    claim = claimed(claims, "o1")
    before = Record.from_hash(generation_id, redis.hgetall(keys.generation(generation_id)))
    redis.flushall()
    append = Append(generation_id, "o1", entry(0, 3))
    assert claims.append([append])[0].code is WriteCode.UNKNOWN
    assert claims.renew([claim]) == [WriteCode.UNKNOWN]
    claims.restore(claim, [entry(0, 2), entry(2, 3)])
    claims.restore(claim, [])  # it is known: nothing changes
    after = await store.get(generation_id)
    assert after is not None
    assert (after.tokens, after.status, after.worker) == (3, Status.RUNNING, "w")
    assert (after.accept_ms, after.deadline_ms) == (before.accept_ms, before.deadline_ms)
    assert (await store.output(generation_id)).token_ids == [0, 1, 2]
    assert [r.generation_id for r in (await store.list_page(5)).records] == [generation_id]
    assert claims.append([append])[0] == WriteResult(WriteCode.WRITTEN, 3)  # a replay
    assert claims.append([Append(generation_id, "o1", entry(3, 4))]) == {}  # simply written
    assert claims.renew([claim]) == [WriteCode.WRITTEN]
