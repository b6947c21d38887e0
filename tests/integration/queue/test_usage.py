"""Usage is written once for each generation that ends, whoever dies, and added up exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, events, keys, records
from miao_queue.claims import Append, Claim, ClaimStore, Entry, QueueSource, WriteCode
from miao_queue.records import Submission
from miao_queue.store import Admission, GenerationStore
from miao_queue.usage import DaySum, UsageStore

OPEN = Admission(backlog_limit=100, require_worker=False)
QUEUES = [QueueSource(name, "m") for name in keys.queue_names("m")]
LEASE_MS = 50


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncRedis]:
    made = connection.connect_async(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as made:
        yield made


async def submit(client: AsyncRedis, request_id: str = "r", tenant: str = "t") -> str:
    submission = Submission(
        request_id=request_id,
        model="m",
        tenant=tenant,
        job=Job(prompt_token_ids=[1, 2], max_tokens=9),
        accepted=pb.Accepted(request_id=request_id, num_prompt_tokens=2),
        fingerprint="f",
        timeout_ms=60_000,
        queue_timeout_ms=60_000,
        retention_seconds=60,
    )
    return (await GenerationStore(client, "front").submit(submission, OPEN)).generation_id


def claim(worker: ClaimStore, owner: str) -> Claim:
    claimed = worker.claim(QUEUES, owner)
    assert isinstance(claimed, Claim)
    return claimed


def say(worker: ClaimStore, claimed: Claim, first: int, last: int) -> None:
    tokens = pb.Tokens(token_ids=range(first, last))
    payload = events.tokens(last, claimed.record.attempt, tokens, 0)
    append = Append(claimed.record.generation_id, claimed.owner, Entry(first, last, payload))
    assert worker.append([append]) == {}


def finish(worker: ClaimStore, claimed: Claim, tokens: int, cached: int = 0) -> WriteCode:
    finished = records.finished_message(
        claimed.record,
        pb.FINISH_REASON_STOP,
        claimed.record.accept_ms + 5,
        output_tokens=tokens,
        cached_prompt_tokens=cached,
    )
    return worker.finish(
        claimed,
        tokens,
        events.finished(tokens, claimed.record.attempt, finished),
        finished.SerializeToString(),
        60,
        records.usage_text(finished, has_run=True),
    ).code


async def sums(client: AsyncRedis, redis: Redis, tenant: str = "t") -> list[DaySum]:
    today = redis.time()[0] // 86_400
    return await UsageStore(client).sums(tenant, [today - 1, today])


async def test_an_end_that_is_written_again_is_one_record(client: AsyncRedis, redis: Redis) -> None:
    generation = await submit(client)
    worker = ClaimStore(redis, "w1", 60_000)
    claimed = claim(worker, "o1")
    say(worker, claimed, 0, 3)
    for _ in range(3):
        assert finish(worker, claimed, 3, cached=1) is WriteCode.WRITTEN
    (record,) = await UsageStore(client).records("t", "", 10)
    assert (record.generation_id, record.request_id, record.model) == (generation, "r", "m")
    assert (record.prompt_tokens, record.cached_prompt_tokens, record.output_tokens) == (2, 1, 3)
    assert (record.attempts, record.reason) == (1, "stop")
    assert record.accept_ms <= record.end_ms
    (total,) = await sums(client, redis)
    assert (total.requests, total.prompt_tokens, total.output_tokens) == (1, 2, 3)
    assert total.cached_prompt_tokens == 1


async def test_a_generation_that_lost_its_worker_is_on_the_bill_once(
    client: AsyncRedis, redis: Redis
) -> None:
    await submit(client)
    lost, heir = ClaimStore(redis, "w1", LEASE_MS), ClaimStore(redis, "w2", 60_000)
    first = claim(lost, "o1")
    say(lost, first, 0, 3)
    await asyncio.sleep(LEASE_MS / 1000)
    while not heir.reap(1):  # noqa: ASYNC110 - it is in Redis
        await asyncio.sleep(0.01)
    second = claim(heir, "o2")
    assert finish(lost, first, 3) is WriteCode.FENCED
    say(heir, second, 3, 5)
    assert finish(heir, second, 5) is WriteCode.WRITTEN
    assert finish(lost, first, 3) is WriteCode.FENCED
    (record,) = await UsageStore(client).records("t", "", 10)
    assert (record.attempts, record.output_tokens) == (2, 5)
    (total,) = await sums(client, redis)
    assert (total.requests, total.output_tokens) == (1, 5)


async def test_what_never_ran_is_on_no_bill_and_what_ran_is_also_where_it_is_cancelled(
    client: AsyncRedis, redis: Redis
) -> None:
    store, worker = GenerationStore(client, "front"), ClaimStore(redis, "w1", 60_000)
    waiting = await submit(client, "never-ran")
    await store.cancel(waiting, "t")
    assert await UsageStore(client).records("t", "", 10) == []
    ran = await submit(client, "ran")
    claimed = claim(worker, "o1")
    say(worker, claimed, 0, 4)
    worker.release([claimed])  # it waits again, with what it has said
    await store.cancel(ran, "t")
    (record,) = await UsageStore(client).records("t", "", 10)
    assert (record.generation_id, record.output_tokens, record.reason) == (ran, 4, "cancelled")


async def test_a_generation_that_redis_forgot_and_got_back_is_on_the_bill_once(
    client: AsyncRedis, redis: Redis
) -> None:
    generation = await submit(client)
    worker = ClaimStore(redis, "w1", 60_000)
    claimed = claim(worker, "o1")
    redis.delete(keys.generation(generation), keys.journal(generation))
    assert finish(worker, claimed, 0) is WriteCode.UNKNOWN
    assert await UsageStore(client).records("t", "", 10) == []
    worker.restore(claimed, [])
    assert finish(worker, claimed, 0) is WriteCode.WRITTEN
    assert len(await UsageStore(client).records("t", "", 10)) == 1


async def test_records_are_read_on_from_where_one_stopped(client: AsyncRedis, redis: Redis) -> None:
    usage, worker = UsageStore(client), ClaimStore(redis, "w1", 60_000)
    for number in range(5):
        await submit(client, f"r{number}")
        finish(worker, claim(worker, f"o{number}"), 0)
    await submit(client, "another's", tenant="u")
    finish(worker, claim(worker, "o9"), 0)
    assert await usage.tenants() == ["t", "u"]
    first = await usage.records("t", "", 3)
    rest = await usage.records("t", first[-1].cursor, 3)
    assert [record.request_id for record in first + rest] == [f"r{n}" for n in range(5)]
    assert await usage.records("t", rest[-1].cursor, 3) == []
    with pytest.raises(ValueError, match="cursor"):
        await usage.records("t", "x", 3)


async def test_old_records_are_forgotten_and_their_sums_are_not(
    client: AsyncRedis, redis: Redis
) -> None:
    usage, worker = UsageStore(client), ClaimStore(redis, "w1", 60_000)
    for number in range(300):  # a stream is trimmed in pieces of a hundred
        redis.xadd(keys.usage("t"), {"id": "x"}, id=f"{number + 1}-0")
    await submit(client)
    finish(worker, claim(worker, "o"), 0)
    await usage.trim(worker.now_ms() - 60_000)
    assert redis.xlen(keys.usage("t")) < 150
    assert [each.requests for each in await sums(client, redis)] == [1]
