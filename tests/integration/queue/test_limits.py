"""Limits: decided before anything is written, counted exactly, and never leaked."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

from miao.internal.v1.queue_pb2 import Job, ModelCard
from miao.v1 import generation_pb2 as pb
from miao_queue import keys
from miao_queue.cards import Presence
from miao_queue.claims import Claim, ClaimStore
from miao_queue.limits import Limit, LimitReached, Limits
from miao_queue.records import SubmitOutcome
from miao_queue.store import Admission, GenerationStore, Submitted

from .calls import QUEUES, admission, end, say, submission


def reached(result: Submitted) -> LimitReached:
    assert result.outcome is SubmitOutcome.LIMITED
    assert result.reached is not None
    return result.reached


def run(claims: ClaimStore, count: int, reason: pb.FinishReason = pb.FINISH_REASON_STOP) -> str:
    """Claim the next, say so many tokens, end it."""
    claim = claims.claim(QUEUES, f"o{random.random()}")
    assert isinstance(claim, Claim)
    say(claims, claim, count)
    end(claims, claim, count, reason)
    return claim.record.generation_id


async def test_requests_in_a_minute(
    store: GenerationStore, let_pass: Callable[[float], None], database: Any
) -> None:
    two = admission(requests_per_minute=2)
    await store.submit(submission("r0"), two)
    let_pass(20)
    await store.submit(submission("r1"), two)
    before = {key: database.dump(key) for key in database.keys("*")}
    refusal = reached(await store.submit(submission("r2"), two))
    assert {key: database.dump(key) for key in database.keys("*")} == before
    assert (refusal.limit, refusal.used) == (Limit.REQUESTS, 2)
    assert 39_000 < refusal.retry_after_ms <= 41_000
    assert (await store.submit(submission("r0"), two)).outcome is SubmitOutcome.ATTACHED
    other = await store.submit(submission("r2", "other"), two)
    assert other.outcome is SubmitOutcome.ACCEPTED
    let_pass((refusal.retry_after_ms - 500) / 1000)
    assert reached(await store.submit(submission("r2"), two)).retry_after_ms <= 500
    let_pass(0.5)
    assert (await store.submit(submission("r2"), two)).outcome is SubmitOutcome.ACCEPTED
    assert reached(await store.submit(submission("r3"), two)).limit is Limit.REQUESTS


async def test_tokens_are_reserved_at_first_and_settled_in_the_end(
    store: GenerationStore, claims: ClaimStore
) -> None:
    limits = admission(tokens_per_minute=25)
    for index in range(2):
        await store.submit(submission(f"r{index}"), limits)  # 10 each
    refusal = reached(await store.submit(submission("r2"), limits))
    assert (refusal.limit, refusal.used) == (Limit.TOKENS, 20)
    run(claims, 2)  # its 9 reserved tokens came to 2
    assert (await store.submit(submission("r2"), limits)).outcome is SubmitOutcome.ACCEPTED
    assert reached(await store.submit(submission("r3"), limits)).used == 23


async def test_what_never_ran_costs_its_request_alone(store: GenerationStore) -> None:
    limits = admission(tokens_per_minute=10, requests_per_minute=2)
    first = await store.submit(submission("r0"), limits)
    await store.cancel(first.generation_id, "acme")
    assert (await store.submit(submission("r1"), limits)).outcome is SubmitOutcome.ACCEPTED
    assert reached(await store.submit(submission("r2"), limits)).limit is Limit.REQUESTS


async def test_open_generations_and_those_that_wait(
    store: GenerationStore, claims: ClaimStore
) -> None:
    limits = admission(concurrent_generations=3, backlog=2)
    for index in range(2):
        await store.submit(submission(f"r{index}"), limits)
    refusal = reached(await store.submit(submission("r2"), limits))
    assert (refusal.limit, refusal.used) == (Limit.BACKLOG, 2)
    claim = claims.claim(QUEUES, "o")
    assert isinstance(claim, Claim)
    assert (await store.submit(submission("r2"), limits)).outcome is SubmitOutcome.ACCEPTED
    refusal = reached(await store.submit(submission("r3"), limits))
    assert (refusal.limit, refusal.used) == (Limit.CONCURRENT, 3)
    assert refusal.retry_after_ms > 0
    end(claims, claim, 0)
    refusal = reached(await store.submit(submission("r3"), limits))
    assert (refusal.limit, refusal.used) == (Limit.BACKLOG, 2)


async def test_what_waiting_does_not_help_has_no_time(store: GenerationStore) -> None:
    low = admission(priorities=("low",))
    refusal = reached(await store.submit(submission("r0"), low))
    assert (refusal.limit, refusal.retry_after_ms) == (Limit.PRIORITIES, 0)
    assert (await store.submit(submission("r0", priority="low"), low)).accept_ms > 0
    for name in ("request_tokens", "tokens_per_minute"):
        refusal = reached(await store.submit(submission("r1"), admission(**{name: 9})))
        assert (refusal.limit, refusal.used, refusal.retry_after_ms) == (Limit(name), 10, 0)
    answers = submission("r2", job=Job(prompt_token_ids=[1], max_tokens=9, num_answers=3))
    assert reached(await store.submit(answers, admission(request_tokens=27))).used == 28


async def test_what_was_accepted_before_is_counted_and_not_refused_again(
    store: GenerationStore,
) -> None:
    limits = Limits(requests_per_minute=1, priorities=("low",))
    again = Admission(2**31, require_worker=False, limits=limits, enforce_limits=False)
    for index in range(2):
        result = await store.submit(submission(f"r{index}"), again)
        assert result.outcome is SubmitOutcome.ACCEPTED
    one = admission(requests_per_minute=1)
    assert reached(await store.submit(submission("r3"), one)).used == 2


async def test_ends_that_a_program_without_these_books_wrote_are_found(
    store: GenerationStore, database: Any
) -> None:
    limits = admission(concurrent_generations=2)
    ids = [(await store.submit(submission(f"r{i}"), limits)).generation_id for i in range(2)]
    database.hset(keys.generation(ids[0]), "status", "finished")
    database.delete(keys.generation(ids[1]))
    for index in range(2):
        result = await store.submit(submission(f"s{index}"), limits)
        assert result.outcome is SubmitOutcome.ACCEPTED
    assert reached(await store.submit(submission("s2"), limits)).used == 2


async def test_a_storm_of_calls_and_losses_leaves_the_counts_as_the_records_are(
    store: GenerationStore, claims: ClaimStore, database: Any
) -> None:
    """Submissions at once, some of them twice; workers that die, end, cancel and forget."""
    limits = admission(
        requests_per_minute=150, tokens_per_minute=2000, concurrent_generations=40, backlog=30
    )
    dice = random.Random(3)
    accepted: set[str] = set()
    for _ in range(12):
        names = [f"r{dice.randrange(400)}" for _ in range(60)]
        results = await asyncio.gather(*(store.submit(submission(n), limits) for n in names))
        accepted |= {
            r.generation_id
            for r in results
            if r.outcome in (SubmitOutcome.ACCEPTED, SubmitOutcome.ATTACHED)
        }
        assert database.zcard(keys.open_generations("m", "acme")) <= 40
        for number in range(25):
            match dice.randrange(5):
                case 0:
                    claim = claims.claim(QUEUES, f"dies{number}")
                    if isinstance(claim, Claim):
                        say(claims, claim, dice.randrange(9))
                        database.zadd(keys.LEASES, {claim.record.generation_id: 0})
                        claims.reap(1)
                        database.delete("miao:reaper")
                case 1:
                    await store.cancel(dice.choice(sorted(accepted)), "acme")
                case _ if database.zcard(keys.WAITING):
                    run(claims, 0)
    states = [database.hgetall(key) for key in database.keys("miao:gen:*")]
    assert len(states) == len(accepted)
    going = [state for state in states if state[b"status"] != b"finished"]
    assert database.zcard(keys.open_generations("m", "acme")) == len(going)
    spent = database.hgetall(keys.spent("m", "acme"))
    requests = sum(int(v) for k, v in spent.items() if k.startswith(b"requests:"))
    tokens = sum(int(v) for k, v in spent.items() if k.startswith(b"tokens:"))
    assert requests == len(accepted) <= 150
    ran = [s for s in states if s[b"status"] == b"finished" and s[b"attempt"] != b"0"]
    assert tokens == 10 * len(going) + sum(1 + int(s[b"tokens"]) for s in ran) <= 2000


# What waits, foreseen. A worker does 100 tokens a second, and output is half of what it may be.


@pytest.fixture
def presence(database: Any, let_pass: Any) -> Presence:
    made = Presence(database, ModelCard(name="m"), "w")
    made.renew(600_000, (100.0, 0.5))
    return made


async def test_what_would_wait_for_longer_than_it_may_is_refused_at_once(
    store: GenerationStore, presence: Presence, database: Any
) -> None:
    for index in range(20):  # 10 and 20 / 2 tokens each: 4 seconds of work
        await store.submit(submission(f"r{index}", prompt_tokens=10, max_tokens=20), admission())
    before = set(database.keys("*"))
    refusal = reached(await store.submit(submission("s0", queue_timeout_ms=1000), admission()))
    assert set(database.keys("*")) == before
    assert (refusal.limit, refusal.used, refusal.retry_after_ms) == (Limit.WAIT, 4000, 3000)
    for name, changes in {
        "s1": {"queue_timeout_ms": 3000},  # it might just do
        "s2": {"queue_timeout_ms": 1000, "tenant": "quiet"},  # whose turn comes first
        "s3": {"queue_timeout_ms": 1000, "priority": "high"},
    }.items():
        result = await store.submit(submission(name, **changes), admission())
        assert result.outcome is SubmitOutcome.ACCEPTED, name


@pytest.mark.parametrize("case", ["no figures", "a worker without", "told not to", "old figures"])
async def test_nothing_is_foreseen_without_figures(
    store: GenerationStore, presence: Presence, database: Any, case: str, let_pass: Any
) -> None:
    allowed = admission()
    for index in range(20):
        await store.submit(submission(f"r{index}", prompt_tokens=10, max_tokens=20), allowed)
    match case:
        case "no figures":
            presence.renew(600_000, None)
        case "a worker without":
            Presence(database, ModelCard(name="m"), "new").renew(600_000)
        case "old figures":
            let_pass(601)
        case _:
            allowed = dataclasses.replace(allowed, predict=False)
    result = await store.submit(submission("s", queue_timeout_ms=1000), allowed)
    assert result.outcome is SubmitOutcome.ACCEPTED
