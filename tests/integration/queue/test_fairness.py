"""Whose turn it is: tenants by what they were served, and nobody waits for ever.

Old programs, which know RQ's lists alone, go on beside these books.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from miao_queue import keys
from miao_queue.claims import Claim, ClaimStore, StaleJob
from miao_queue.store import GenerationStore

from .calls import LONG, QUEUES, admission, end, say, submission


class Caller:
    """Submits for a tenant, with names of its own for what it gets."""

    def __init__(self, store: GenerationStore) -> None:
        self._store = store
        self.names: dict[str, str] = {}

    async def ask(self, name: str, priority: str = "normal", weight: float = 1.0) -> str:
        """`name` begins with the tenant's: "a:1"."""
        asked = submission(
            name.replace(":", "-"),
            tenant=name.partition(":")[0],
            prompt_tokens=10,
            max_tokens=5,
            timeout_ms=LONG,
            queue_timeout_ms=LONG,
            priority=priority,
        )
        result = await self._store.submit(asked, admission(weight=weight))
        self.names[result.generation_id] = name
        return result.generation_id

    def next(self, claims: ClaimStore, barred: tuple[str, ...] = ()) -> str | None:
        claim = claims.claim(QUEUES, "o", barred)
        if claim is None:
            return None
        assert isinstance(claim, Claim)
        return self.names[claim.record.generation_id]

    def rest(self, claims: ClaimStore) -> list[str]:
        found = []
        while (name := self.next(claims)) is not None:
            found.append(name)
        return found


@pytest.fixture
def caller(store: GenerationStore) -> Caller:
    return Caller(store)


async def test_a_flood_does_not_delay_another_tenant(caller: Caller, claims: ClaimStore) -> None:
    for index in range(20):
        await caller.ask(f"a:{index}")
    assert [caller.next(claims) for _ in range(5)] == [f"a:{index}" for index in range(5)]
    await caller.ask("b:0")
    await caller.ask("b:1")
    await caller.ask("c:0")
    seen = [caller.next(claims) for _ in range(4)]
    assert {name for name in seen[:3] if name} == {"a:5", "b:0", "c:0"}
    assert caller.rest(claims)[:2] == [*(["b:1"] if seen[3] == "a:6" else ["a:6"]), "a:7"]


async def test_shares_are_by_weight_and_by_what_was_said(
    caller: Caller, claims: ClaimStore
) -> None:
    for index in range(40):
        await caller.ask(f"a:{index}", weight=3)
        await caller.ask(f"b:{index}")
    served = Counter(str(caller.next(claims))[0] for _ in range(40))
    assert served == {"a": 30, "b": 10}


async def test_output_counts_for_its_tenant(caller: Caller, claims: ClaimStore) -> None:
    for index in range(6):
        await caller.ask(f"a:{index}")
        await caller.ask(f"b:{index}")
    first = claims.claim(QUEUES, "talks")
    assert isinstance(first, Claim)
    tenant = first.record.tenant
    say(claims, first, 15)
    claims.renew([first])
    claims.renew([first])  # counted once: 30 virtual tokens, as three prompts
    others = [str(caller.next(claims))[0] for _ in range(4)]
    assert others == [{"a": "b", "b": "a"}[tenant]] * 4


async def test_who_comes_back_has_saved_nothing_up(caller: Caller, claims: ClaimStore) -> None:
    await caller.ask("b:0")
    assert caller.next(claims) == "b:0"
    for index in range(30):
        await caller.ask(f"a:{index}")
    for _ in range(20):
        caller.next(claims)
    for index in range(5):
        await caller.ask(f"b:{index + 1}")
    following = Counter(str(caller.next(claims))[0] for _ in range(6))
    assert following == {"a": 3, "b": 3}


async def test_what_comes_back_from_a_worker_is_first(caller: Caller, claims: ClaimStore) -> None:
    for name in ("a:0", "b:0", "b:1"):
        await caller.ask(name)
    claim = claims.claim(QUEUES, "o")
    assert isinstance(claim, Claim)
    claims.release([claim])
    assert caller.next(claims) == caller.names[claim.record.generation_id]


async def test_less_urgent_work_is_never_starved(
    caller: Caller, claims: ClaimStore, let_pass: Callable[[float], None]
) -> None:
    for index in range(3):
        await caller.ask(f"slow:{index}", "low")
    for index in range(10):
        await caller.ask(f"a:{index}", "high")
    assert {str(caller.next(claims))[0] for _ in range(8)} == {"a"}
    let_pass(31)
    for index in range(10, 22):
        await caller.ask(f"a:{index}", "high")
    order = [str(caller.next(claims))[0] for _ in range(11)]
    assert order == [*"s", *"aaaa", *"s", *"aaaa", *"s"]


async def test_a_barred_tenant_gets_nothing_this_time(caller: Caller, claims: ClaimStore) -> None:
    await caller.ask("a:0")
    assert caller.next(claims, barred=("a",)) is None
    await caller.ask("b:0", "low")
    assert caller.next(claims, barred=("a",)) == "b:0"
    assert caller.next(claims, barred=("b",)) == "a:0"


async def test_workers_at_once_claim_each_job_once(
    caller: Caller, redis_url: str, let_pass: Any
) -> None:
    for index in range(60):
        await caller.ask(f"{'abc'[index % 3]}:{index}")

    def work(number: int) -> list[str]:
        with Redis.from_url(redis_url) as client:
            return caller.rest(ClaimStore(client, f"w{number}", 3_600_000))

    found = await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(4)))
    assert sorted(name for names in found for name in names) == sorted(caller.names.values())


# Programs of an earlier version, and RQ's own tools, change RQ's list alone.


def pop_as_before(database: Any, queue: str = "m:normal") -> str:
    generation_id: bytes = database.lpop(keys.queue_key(queue))
    key = keys.generation(generation_id.decode())
    database.hincrby(key, "attempt", 1)
    database.hset(key, mapping={"status": "running", "owner": "old", "worker": "old"})
    return generation_id.decode()


def requeue_as_before(database: Any, generation_id: str, queue: str = "m:normal") -> None:
    key = keys.generation(generation_id)
    database.hset(key, "status", "queued")
    database.hdel(key, "owner", "worker")
    database.lpush(keys.queue_key(queue), generation_id)


async def test_what_an_old_worker_took_is_passed_over_and_what_it_returns_is_found(
    caller: Caller, claims: ClaimStore, database: Any
) -> None:
    for name in ("a:0", "a:1", "b:0"):
        await caller.ask(name)
    taken = pop_as_before(database)
    assert {caller.next(claims), caller.next(claims)} == {"a:1", "b:0"}
    assert caller.next(claims) is None
    requeue_as_before(database, taken)
    assert caller.next(claims) == "a:0"
    assert database.keys("miao:line:*") == database.keys("miao:turns:*") == []


async def test_what_an_old_front_queued_is_found(
    caller: Caller, claims: ClaimStore, database: Any
) -> None:
    for name in ("a:0", "b:0", "a:1"):
        generation_id = await caller.ask(name)
        if name == "b:0":
            continue
        database.hdel(keys.generation(generation_id), "line", "prompt_tokens", "weight")
        database.delete(keys.line("m:normal", "a"))
    database.zrem(keys.turns("m:normal"), "a")
    assert sorted(caller.rest(claims)) == ["a:0", "a:1", "b:0"]
    assert database.keys("miao:load:*") == []


async def test_an_entry_that_is_no_generation_is_taken_out(
    caller: Caller, claims: ClaimStore, database: Any
) -> None:
    database.rpush(keys.queue_key("m:normal"), "stranger")
    await caller.ask("a:0")
    assert claims.claim(QUEUES, "o") == StaleJob("stranger")
    assert caller.next(claims) == "a:0"


async def test_an_old_end_leaves_nothing_in_line(
    caller: Caller, claims: ClaimStore, database: Any
) -> None:
    generation_id = await caller.ask("a:0")
    pop_as_before(database)
    database.delete(keys.generation(generation_id))
    await caller.ask("a:1")
    assert caller.next(claims) == "a:1"
    assert database.keys("miao:line:*") == database.keys("miao:turns:*") == []
    claim = claims.claim(QUEUES, "o")
    assert claim is None


async def test_an_end_is_charged_too(caller: Caller, claims: ClaimStore, database: Any) -> None:
    await caller.ask("a:0")
    claim = claims.claim(QUEUES, "o")
    assert isinstance(claim, Claim)
    say(claims, claim, 5)
    for _ in range(2):
        end(claims, claim, 5)
    assert database.zscore(keys.served("m"), "a") == 10 + 2 * 5
