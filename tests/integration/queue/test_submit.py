"""Submission: admission and enqueuing are one step, and RQ sees a job of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, keys, records
from miao_queue.records import CancelOutcome, Status, Submission, SubmitOutcome
from miao_queue.store import Admission, GenerationStore

OPEN = Admission(backlog_limit=100, require_worker=False)


def submission(request_id: str = "r1", **changes: object) -> Submission:
    values: dict[str, object] = {
        "request_id": request_id,
        "model": "m",
        "job": Job(prompt_token_ids=[1, 2, 3], max_tokens=5),
        "accepted": pb.Accepted(request_id=request_id, model="m", num_prompt_tokens=3),
        "fingerprint": "f",
        "timeout_ms": 60_000,
        "queue_timeout_ms": 30_000,
        "retention_seconds": 60,
    }
    return Submission(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[GenerationStore]:
    client = connection.connect_async(redis_url)
    yield GenerationStore(client, "front-1")
    await client.aclose()


async def test_an_accepted_submission_is_a_queued_rq_job(
    store: GenerationStore, redis_url: str
) -> None:
    result = await store.submit(submission(), OPEN)
    assert result.outcome is SubmitOutcome.ACCEPTED
    with Redis.from_url(redis_url) as client:
        queue = Queue("m:normal", connection=client, serializer=JSONSerializer)
        assert queue.job_ids == [result.generation_id]
        job = RqJob.fetch(result.generation_id, connection=client, serializer=JSONSerializer)
        assert job.get_status() == "queued"
        assert job.args == [result.generation_id]
    record = await store.get(result.generation_id)
    assert record is not None
    assert (record.status, record.tokens, record.attempt) == (Status.QUEUED, 0, 0)


async def test_the_same_request_attaches_and_another_content_conflicts(
    store: GenerationStore, redis_url: str
) -> None:
    first, second = await asyncio.gather(
        store.submit(submission(), OPEN), store.submit(submission(), OPEN)
    )
    assert first.generation_id == second.generation_id
    assert {first.outcome, second.outcome} == {SubmitOutcome.ACCEPTED, SubmitOutcome.ATTACHED}
    other = await store.submit(submission(fingerprint="g"), OPEN)
    assert other.outcome is SubmitOutcome.CONFLICT
    with Redis.from_url(redis_url) as client:
        assert client.llen(keys.queue_key("m:normal")) == 1


@pytest.mark.parametrize(
    ("admission", "outcome"),
    [
        (Admission(backlog_limit=0, require_worker=False), SubmitOutcome.BACKLOG_FULL),
        (Admission(backlog_limit=10, require_worker=True), SubmitOutcome.NO_WORKER),
    ],
)
async def test_a_refused_submission_writes_nothing(
    store: GenerationStore, redis_url: str, admission: Admission, outcome: SubmitOutcome
) -> None:
    assert (await store.submit(submission(), admission)).outcome is outcome
    with Redis.from_url(redis_url) as client:
        assert client.keys() == []


async def test_cancelling_a_queued_generation_ends_it_and_empties_the_queue(
    store: GenerationStore, redis_url: str
) -> None:
    generation_id = (await store.submit(submission(), OPEN)).generation_id
    assert await store.cancel(generation_id) is CancelOutcome.CANCELLED
    assert await store.cancel(generation_id) is CancelOutcome.FINISHED
    assert await store.cancel("unknown") is CancelOutcome.MISSING
    record = await store.get(generation_id)
    assert record is not None
    assert record.finished is not None
    assert record.finished.reason == pb.FINISH_REASON_CANCELLED
    with Redis.from_url(redis_url) as client:
        assert client.llen(keys.queue_key("m:normal")) == 0
        job = RqJob.fetch(generation_id, connection=client, serializer=JSONSerializer)
        assert job.get_status() == "canceled"
        assert 0 < client.ttl(keys.generation(generation_id)) <= 60
        assert client.xrange(keys.journal(generation_id))[0][0] == b"0-1"


async def test_pages_list_the_newest_first_and_forget_what_has_expired(
    store: GenerationStore, redis_url: str
) -> None:
    ids = [(await store.submit(submission(f"r{i}"), OPEN)).generation_id for i in range(5)]
    first = await store.list_page(2)
    second = await store.list_page(2, first.next_cursor)
    third = await store.list_page(2, second.next_cursor)
    seen = [record.generation_id for page in (first, second, third) for record in page.records]
    assert set(seen) == set(ids)
    assert third.next_cursor is None
    with Redis.from_url(redis_url) as client:
        client.delete(keys.generation(ids[0]))
    assert ids[0] not in [r.generation_id for r in (await store.list_page(10)).records]
    with Redis.from_url(redis_url) as client:
        assert client.zcard(keys.tenant(records.TENANT)) == 4
    with pytest.raises(ValueError, match="cursor"):
        await store.list_page(2, "nonsense")
