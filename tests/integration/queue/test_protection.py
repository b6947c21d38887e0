"""Sealed and signed generations in a real Redis: submitted, claimed, written, read, refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, events, keys, records
from miao_queue.claims import Append, Claim, ClaimStore, Entry, QueueSource, RefusedJob, WriteCode
from miao_queue.key_ring import KeyRing
from miao_queue.protection import UNPROTECTED, Protection
from miao_queue.records import Submission, SubmitOutcome
from miao_queue.sealing import SealingVault
from miao_queue.signing import Signer
from miao_queue.store import Admission, GenerationStore
from miao_queue.vault import Encryption, UnreadableError

OLD, BOTH = KeyRing({"k1": b"1" * 32}), KeyRing({"k2": b"2" * 32, "k1": b"1" * 32})
PROMPT = list(range(70, 90))
CANARY = "canary in the coal mine"
FINGERPRINT = "f" * 32


def guarded(ring: KeyRing, encryption: Encryption = Encryption.REQUIRE) -> Protection:
    return Protection(SealingVault(ring, encryption), Signer(ring))


@pytest.fixture
def redis(redis_url: str) -> Iterator[Any]:
    client = connection.connect(redis_url)
    yield client
    client.close()


async def submit(url: str, protection: Protection, request_id: str = "r", **changes: Any) -> Any:
    submission = Submission(
        request_id=request_id,
        model="m",
        job=Job(prompt_token_ids=PROMPT, max_tokens=5, stop=[CANARY]),
        accepted=pb.Accepted(num_prompt_tokens=len(PROMPT)),
        fingerprint=changes.pop("fingerprint", FINGERPRINT),
        timeout_ms=60_000,
        queue_timeout_ms=60_000,
        retention_seconds=60,
        **changes,
    )
    client = connection.connect_async(url)
    try:
        store = GenerationStore(client, "front", protection=protection)
        return await store.submit(submission, Admission(100, require_worker=False))
    finally:
        await client.aclose()


async def read(url: str, protection: Protection, generation_id: str) -> Any:
    client = connection.connect_async(url)
    try:
        store = GenerationStore(client, "front", protection=protection)
        return await store.get(generation_id), await store.output(generation_id)
    finally:
        await client.aclose()


def claims(redis: Any, protection: Protection, lease_ms: int = 60_000) -> ClaimStore:
    return ClaimStore(redis, "w", lease_ms, protection)


def claim(redis: Any, protection: Protection, owner: str = "o", lease_ms: int = 60_000) -> Any:
    store = claims(redis, protection, lease_ms)
    return store.claim([QueueSource("m:normal", "m")], owner)


def entry(first: int, last: int) -> Entry:
    tokens = pb.Tokens(text=CANARY, token_ids=range(first, last))
    return Entry(first, last, events.tokens(last, 1, tokens, 0))


def finish(store: ClaimStore, taken: Claim, tokens: int) -> WriteCode:
    finished = pb.Finished(reason=pb.FINISH_REASON_STOP, stop=CANARY)
    event = events.finished(tokens, 1, finished)
    usage = records.usage_text(finished, has_run=True)
    return store.finish(taken, tokens, event, finished.SerializeToString(), 60, usage).code


def everything(redis: Any) -> bytes:
    """All that Redis holds, values and names."""
    found: list[bytes] = []
    for name in redis.keys("*"):
        match redis.type(name):
            case b"hash":
                found += [part for pair in redis.hgetall(name).items() for part in pair]
            case b"stream":
                for _, fields in redis.xrange(name):
                    found += [part for pair in fields.items() for part in pair]
            case b"string":
                found.append(redis.get(name))
            case b"zset":
                found += redis.zrange(name, 0, -1)
            case b"set":
                found += redis.smembers(name)
            case b"list":
                found += redis.lrange(name, 0, -1)
        found.append(name)
    return b"\n".join(found)


async def test_a_sealed_generation_goes_its_way_and_nothing_of_it_lies_open(
    redis: Any, redis_url: str
) -> None:
    protection = guarded(OLD)
    submitted = await submit(redis_url, protection)
    prompt = Job(prompt_token_ids=PROMPT).SerializeToString()
    assert FINGERPRINT.encode() not in everything(redis)  # or prompts could be tried on it
    store = claims(redis, protection)
    taken = store.claim([QueueSource("m:normal", "m")], "o")
    assert isinstance(taken, Claim)
    assert list(taken.job.prompt_token_ids) == PROMPT
    generation_id = submitted.generation_id
    for part in (entry(0, 2), entry(2, 4)):
        assert store.append([Append(generation_id, "o", part)]) == {}  # simply written
    assert CANARY.encode() not in everything(redis)
    assert prompt not in everything(redis)
    # A worker that takes it over reads what was said; one that writes it again seals it.
    redis.zadd(keys.LEASES, {generation_id: 1})
    store.reap(1)
    again = store.claim([QueueSource("m:normal", "m")], "p")
    assert isinstance(again, Claim)
    assert [events.decode(each.payload).tokens.text for each in again.entries] == [CANARY] * 2
    redis.delete(keys.generation(generation_id), keys.journal(generation_id))
    store.restore(again, again.entries)
    assert finish(store, again, 4) is WriteCode.WRITTEN
    assert CANARY.encode() not in everything(redis)
    record, output = await read(redis_url, protection, generation_id)
    assert record.finished.stop == CANARY
    assert output.text == CANARY * 2
    with pytest.raises(UnreadableError):
        await read(redis_url, UNPROTECTED, generation_id)


async def test_without_keys_the_same_search_finds_it(redis: Any, redis_url: str) -> None:
    await submit(redis_url, UNPROTECTED)
    assert CANARY.encode() in everything(redis)
    assert Job(prompt_token_ids=PROMPT).SerializeToString() in everything(redis)
    assert FINGERPRINT.encode() in everything(redis)


async def test_entries_that_somebody_swaps_do_not_open(redis: Any, redis_url: str) -> None:
    protection = guarded(OLD)
    generation_id = (await submit(redis_url, protection)).generation_id
    store = claims(redis, protection)
    store.claim([QueueSource("m:normal", "m")], "o")
    store.append([Append(generation_id, "o", part) for part in (entry(0, 2), entry(2, 4))])
    journal = keys.journal(generation_id)
    (_, first), (_, second) = redis.xrange(journal)
    redis.delete(journal)
    redis.xadd(journal, second, "2-0")
    redis.xadd(journal, first, "4-0")
    with pytest.raises(UnreadableError, match="is not what was written there"):
        await read(redis_url, protection, generation_id)
    redis.zadd(keys.LEASES, {generation_id: 1})
    store.reap(1)
    assert isinstance(claim(redis, protection, "p"), RefusedJob)


@pytest.mark.parametrize(
    ("field", "value"),
    [("tenant", "mallory"), ("job", b""), ("request_id", "x"), ("signature", "k1:00")],
)
async def test_a_job_that_somebody_changed_ends_with_an_error_and_never_runs(
    redis: Any, redis_url: str, field: str, value: Any
) -> None:
    protection = Protection(signer=Signer(OLD))
    generation_id = (await submit(redis_url, protection)).generation_id
    redis.hset(keys.generation(generation_id), field, value)
    refused = claim(redis, protection)
    assert refused == RefusedJob(generation_id, "its job is not what was signed")
    state = redis.hgetall(keys.generation(generation_id))
    record = records.Record.from_hash(generation_id, state)
    assert record.status is records.Status.FINISHED
    assert record.finished is not None
    assert record.finished.reason == pb.FINISH_REASON_ERROR
    assert record.finished.error.message.endswith("its job is not what was signed")
    [(entry_id, _)] = redis.xrange(keys.journal(generation_id))
    assert entry_id == b"0-1"
    assert claim(redis, protection) is None


async def test_an_unsigned_job_is_refused_and_a_signed_one_runs_anywhere(
    redis: Any, redis_url: str
) -> None:
    await submit(redis_url, UNPROTECTED, "unsigned")
    refused = claim(redis, Protection(signer=Signer(OLD)))
    assert isinstance(refused, RefusedJob)
    assert refused.reason == "its job is not signed"
    for worker in (Protection(signer=Signer(BOTH)), UNPROTECTED):
        await submit(redis_url, Protection(signer=Signer(OLD)), f"signed for {id(worker)}")
        assert isinstance(claim(redis, worker), Claim)


async def test_a_worker_without_the_key_ends_what_it_cannot_read(
    redis: Any, redis_url: str
) -> None:
    await submit(redis_url, Protection(SealingVault(BOTH)))
    refused = claim(redis, Protection(SealingVault(OLD)))
    assert isinstance(refused, RefusedJob)
    assert "a key that this process does not have" in refused.reason


async def test_the_same_request_attaches_while_keys_are_rotated_and_encryption_comes_in(
    redis_url: str,
) -> None:
    stages = [
        UNPROTECTED,
        Protection(SealingVault(OLD, Encryption.ACCEPT)),
        Protection(SealingVault(OLD, Encryption.ON)),
        Protection(SealingVault(BOTH, Encryption.ON)),
    ]
    for index, first in enumerate(stages):
        name = f"begun at {index}"
        assert (await submit(redis_url, first, name)).outcome is SubmitOutcome.ACCEPTED
        for later in stages[index:]:
            again = await submit(redis_url, later, name)
            assert again.outcome is SubmitOutcome.ATTACHED
            other = await submit(redis_url, later, name, fingerprint="0" * 32)
            assert other.outcome is SubmitOutcome.CONFLICT


async def test_a_front_ends_what_waits_in_the_same_form(redis: Any, redis_url: str) -> None:
    protection = guarded(OLD)
    generation_id = (await submit(redis_url, protection)).generation_id
    client = connection.connect_async(redis_url)
    store = GenerationStore(client, "front", protection=protection)
    await store.cancel(generation_id)
    record, _ = await read(redis_url, protection, generation_id)
    assert record.finished.reason == pb.FINISH_REASON_CANCELLED
    page = await store.list_page(10)
    assert [each.generation_id for each in page.records] == [generation_id]
    await client.aclose()
