"""Models come, go and are replaced: whose generations a worker takes, and which card holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis import Redis

from miao.internal.v1.queue_pb2 import Job, ModelCard
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, keys
from miao_queue.cards import Cards, Presence
from miao_queue.claims import Append, Claim, ClaimStore, Entry, QueueSource
from miao_queue.records import Submission, SubmitOutcome
from miao_queue.store import Admission, GenerationStore

TTL_MS = 60_000
OPEN = Admission(backlog_limit=100, require_worker=False)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def submit(redis_url: str) -> AsyncIterator[Callable[..., object]]:
    client = connection.connect_async(redis_url)
    store = GenerationStore(client, "front-1")

    async def send(request_id: str, vocabulary: str = "v1") -> SubmitOutcome:
        submission = Submission(
            request_id=request_id,
            model="m",
            job=Job(prompt_token_ids=[1], max_tokens=9),
            accepted=pb.Accepted(request_id=request_id, num_prompt_tokens=1),
            fingerprint="f",
            timeout_ms=60_000,
            queue_timeout_ms=60_000,
            retention_seconds=60,
            vocabulary=vocabulary,
        )
        return (await store.submit(submission, OPEN)).outcome

    yield send
    await client.aclose()


@pytest.fixture
async def cards(redis_url: str) -> AsyncIterator[Cards]:
    client = connection.connect_async(redis_url)
    yield Cards(client)
    await client.aclose()


def presence(redis: Redis, worker: str, vocabulary: str = "v1", weights: str = "w1") -> Presence:
    card = ModelCard(name="m", vocabulary_digest=vocabulary, weights_digest=weights)
    return Presence(redis, card, worker)


def claim(redis: Redis, vocabulary: str = "v1", weights: str = "w1") -> Claim | None:
    sources = [QueueSource(name, "m", vocabulary, weights) for name in keys.queue_names("m")]
    found = ClaimStore(redis, "w", 60_000).claim(sources, "owner")
    assert found is None or isinstance(found, Claim)
    return found


def request_of(found: Claim | None) -> str | None:
    return None if found is None else found.record.request_id


async def test_tokens_of_another_vocabulary_are_left_to_who_has_it(
    redis: Redis, submit: Callable[..., object]
) -> None:
    """Those behind them are not held up, and the order stays."""
    old = presence(redis, "old")
    old.announce(TTL_MS)
    for request_id in ("a", "b", "c"):
        assert await submit(request_id, "v1") is SubmitOutcome.ACCEPTED  # type: ignore[misc]
    presence(redis, "new", "v2").announce(TTL_MS)
    assert await submit("d", "v2") is SubmitOutcome.ACCEPTED  # type: ignore[misc]
    assert request_of(claim(redis, "v2")) == "d"
    assert claim(redis, "v2") is None
    assert [request_of(claim(redis, "v1")) for _ in range(2)] == ["a", "b"]
    old.withdraw()
    left = claim(redis, "v2")  # nobody else lives who could: this worker has to end it
    assert left is not None
    assert (left.record.request_id, left.record.vocabulary) == ("c", "v1")


async def test_what_was_begun_with_other_weights_is_left_to_who_has_them(
    redis: Redis, submit: Callable[..., object]
) -> None:
    presence(redis, "old").announce(TTL_MS)
    presence(redis, "new", weights="w2").announce(TTL_MS)
    for request_id in ("begun", "waiting"):
        await submit(request_id)  # type: ignore[misc]
    begun = claim(redis)
    assert begun is not None
    store = ClaimStore(redis, "w", 60_000)
    store.append([Append(begun.record.generation_id, begun.owner, Entry(0, 1, b"event"))])
    store.release([begun])
    assert request_of(claim(redis, weights="w2")) == "waiting"
    assert claim(redis, weights="w2") is None
    again = claim(redis)
    assert again is not None
    assert (again.record.request_id, again.record.tokens) == ("begun", 1)
    assert again.record.weights == "w1"


async def test_a_prompt_of_the_model_before_is_refused_and_nothing_written(
    redis: Redis, submit: Callable[..., object]
) -> None:
    presence(redis, "new", "v2").announce(TTL_MS)
    before = redis.dbsize()
    assert await submit("late", "v1") is SubmitOutcome.MODEL_CHANGED  # type: ignore[misc]
    assert redis.dbsize() == before


async def test_a_card_that_nobody_stands_behind_is_replaced(redis: Redis, cards: Cards) -> None:
    old, new = presence(redis, "old"), presence(redis, "new", "v2")
    old.announce(TTL_MS)
    new.announce(TTL_MS)
    old.renew(TTL_MS)
    assert (await cards.card("m")).vocabulary_digest == "v2"  # type: ignore[union-attr]
    new.withdraw()
    old.renew(TTL_MS)
    assert (await cards.card("m")).vocabulary_digest == "v1"  # type: ignore[union-attr]
    redis.delete(keys.model("m"), keys.MODELS)
    old.renew(TTL_MS)
    assert list(await cards.statuses()) == ["m"]


async def test_a_model_is_forgotten_only_when_nothing_needs_it(
    redis: Redis, cards: Cards, submit: Callable[..., object]
) -> None:
    worker = presence(redis, "w")
    worker.announce(TTL_MS)
    assert not await cards.forget("m", 0)
    await submit("waits")  # type: ignore[misc]
    worker.withdraw()
    assert not await cards.forget("m", 0)
    assert claim(redis) is not None
    assert not await cards.forget("m", 60_000)
    assert await cards.forget("m", 0)
    assert await cards.statuses() == {}
