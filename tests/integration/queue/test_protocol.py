"""The journal and claim protocol as a state machine, against a real server.

Fronts, workers, zombies, replies that get lost, and a Redis that comes back as it
was some time ago, in any order; whatever happens, each journal says the tokens of
its generation in order, ends once, and no generation is out of everybody's sight.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, events, keys
from miao_queue.claims import Append, Claim, ClaimStore, Entry, QueueSource, WriteCode
from miao_queue.events import Position
from miao_queue.limits import Limits
from miao_queue.records import Record, Status, Submission, SubmitOutcome, finished_message
from miao_queue.store import Admission, GenerationStore

MODEL = "m"
LENGTH = 12  # tokens of every generation
LEASE_MS = 3_600_000  # ends when the machine says so
QUEUES = [QueueSource(name, MODEL) for name in keys.queue_names(MODEL)]
ROOM = Limits(requests_per_minute=10**6, tokens_per_minute=10**9)  # never reached, but counted
OPEN = Admission(backlog_limit=1000, require_worker=False, limits=ROOM)
TENANTS = ["a", "b"]

_T = TypeVar("_T")


def token(generation_id: str, position: int) -> int:
    """What the model says there, whoever asks and whenever."""
    return events.digest([position], zlib.crc32(generation_id.encode())) % 50_000


@dataclass
class Running:
    """A claimed generation in a worker's memory."""

    claim: Claim
    claims: ClaimStore
    entries: list[Entry] = field(default_factory=list)

    @property
    def generation_id(self) -> str:
        return self.claim.record.generation_id

    @property
    def tokens(self) -> int:
        return self.entries[-1].last if self.entries else 0

    def advance(self, count: int) -> None:
        first, last = self.tokens, min(self.tokens + count, LENGTH)
        if first == last:
            return
        ids = [token(self.generation_id, position) for position in range(first, last)]
        message = pb.Tokens(token_ids=ids, text="x" * len(ids), text_lengths=[1] * len(ids))
        digest = events.digest([token(self.generation_id, p) for p in range(last)])
        payload = events.tokens(last, self.claim.record.attempt, message, digest)
        self.entries.append(Entry(first, last, payload))


class Protocol(RuleBasedStateMachine):
    """What every process may do next, at any time."""

    url = ""  # of the server
    generations = Bundle("generations")
    running = Bundle("running")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis = Redis.from_url(self.url)
        self.redis.flushall()
        self.asynchronous = connection.connect_async(self.url)
        self.store = GenerationStore(self.asynchronous, "front")
        self.workers = [ClaimStore(self.redis, f"w{i}", LEASE_MS) for i in range(3)]
        self.accepted: set[str] = set()
        self.num_owners = 0
        self.snapshot: dict[bytes, tuple[bytes, int]] = {}

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self._finish_all()
        finally:
            self._wait(self.asynchronous.aclose())
            self.redis.close()
            self.loop.close()

    # Callers and fronts

    @rule(target=generations, number=st.integers(0, 4))
    def submit(self, number: int) -> str:
        result = self._wait(self.store.submit(self._submission(number), OPEN))
        assert result.outcome in (SubmitOutcome.ACCEPTED, SubmitOutcome.ATTACHED)
        assert (result.outcome is SubmitOutcome.ATTACHED) == (result.generation_id in self.accepted)
        self.accepted.add(result.generation_id)
        return result.generation_id

    @rule(generation_id=generations)
    def cancel(self, generation_id: str) -> None:
        for tenant in TENANTS:
            self._wait(self.store.cancel(generation_id, tenant))

    @rule(generation_id=generations)
    def wait_too_long(self, generation_id: str) -> None:
        self.redis.zadd(keys.WAITING, {generation_id: 0}, xx=True)
        self._wait(self.store.expire_overdue())

    # Workers

    @rule(target=running, worker=st.integers(0, 2))
    def claim(self, worker: int) -> Any:
        self.num_owners += 1
        claim = self.workers[worker].claim(QUEUES, f"o{self.num_owners}")
        if claim is None:
            return multiple()
        assert isinstance(claim, Claim)
        return Running(claim, self.workers[worker], list(claim.entries))

    @rule(worker=st.integers(0, 2))
    def claim_and_die(self, worker: int) -> None:
        self.num_owners += 1
        self.workers[worker].claim(QUEUES, f"o{self.num_owners}")

    @rule(one=running, count=st.integers(1, 4), times=st.integers(1, 2))
    def append(self, one: Running, count: int, times: int) -> None:
        """One step; sent twice where the reply to the first was lost."""
        one.advance(count)
        for _ in range(times if one.entries else 0):
            self._append(one, one.entries[-1])

    @rule(one=running, count=st.integers(1, 4))
    def generate_unsent(self, one: Running, count: int) -> None:
        """A step whose append never reaches Redis: the next one meets a gap."""
        one.advance(count)

    @rule(one=running, index=st.integers(0, LENGTH))
    def replay(self, one: Running, index: int) -> None:
        if index < len(one.entries):
            self._append(one, one.entries[index])

    @rule(one=running)
    def renew(self, one: Running) -> None:
        (code,) = one.claims.renew([one.claim])
        if code is WriteCode.UNKNOWN:
            one.claims.restore(one.claim, one.entries)

    @rule(one=running, times=st.integers(1, 2))
    def finish(self, one: Running, times: int) -> None:
        one.advance(LENGTH)
        for _ in range(times):
            self._finish(one)

    @rule(one=consumes(running))
    def die(self, one: Running) -> None:
        """The worker forgets it; its lease remains."""

    @rule(one=consumes(running))
    def hand_over(self, one: Running) -> None:
        one.claims.release([one.claim])

    @rule(one=running)
    def hand_over_and_go_on(self, one: Running) -> None:
        """A zombie: it gave its claim back, or so Redis thinks, and writes on."""
        one.claims.release([one.claim])

    @rule(generation_id=generations)
    def lose_lease(self, generation_id: str) -> None:
        self.redis.zadd(keys.LEASES, {generation_id: 0}, xx=True)
        self.workers[0].reap(1)
        self.redis.delete("miao:reaper")

    # Redis

    @rule()
    def reach_disk(self) -> None:
        found: Any = self.redis.keys()
        self.snapshot = {
            key: (dump, max(0, self.redis.pttl(key)))
            for key in found
            if (dump := self.redis.dump(key)) is not None
        }
        self.on_disk = set(self.accepted)

    @rule()
    def come_back_as_on_disk(self) -> None:
        if not self.snapshot:
            return
        self.redis.flushall()
        for key, (dump, ttl) in self.snapshot.items():
            self.redis.restore(key, ttl, dump)
        self.accepted = set(self.on_disk)  # the others are the front's to send again

    # What must hold

    @invariant()
    def journals_say_everything_in_order_and_end_once(self) -> None:
        for generation_id in self._all():
            position, ended = 0, False
            for entry_id, fields in self.redis.xrange(keys.journal(generation_id)):
                event = events.decode(fields[events.FIELD])
                place = Position.of_entry(entry_id)
                assert not ended
                ids = list(event.tokens.token_ids)
                assert ids == [token(generation_id, position + i) for i in range(len(ids))]
                position += len(ids)
                assert place.tokens == event.sequence_number == position
                ended = place.ended
                assert ended == event.HasField("finished")
            record = self._record(generation_id)
            assert record.tokens == position
            assert (record.status is Status.FINISHED) == ended

    @invariant()
    def every_generation_is_in_exactly_one_place(self) -> None:
        queued: list[bytes] = []
        for name in keys.queue_names(MODEL):
            queued += self.redis.lrange(keys.queue_key(name), 0, -1)  # type: ignore[arg-type]
        leased = set(self.redis.zrange(keys.LEASES, 0, -1))
        waiting = set(self.redis.zrange(keys.WAITING, 0, -1))
        assert len(queued) == len(set(queued))
        for generation_id in self._all():
            status, member = self._record(generation_id).status, generation_id.encode()
            assert (member in queued) == (status is Status.QUEUED)
            assert (member in waiting) == (status is Status.QUEUED)
            assert (member in leased) == (status is Status.RUNNING)
            has_ttl = self.redis.ttl(keys.generation(generation_id)) > 0
            assert has_ttl == (status is Status.FINISHED)

    @invariant()
    def who_waits_stands_in_line(self) -> None:
        for name in keys.queue_names(MODEL):
            lines = self._lines(name)
            queued: Any = self.redis.lrange(keys.queue_key(name), 0, -1)
            assert Counter(queued) == Counter(one for line in lines.values() for one in line)
            turns = {tenant.decode() for tenant in self.redis.zrange(keys.turns(name), 0, -1)}
            assert turns == set(lines)
            for tenant, line in lines.items():
                records = [self._record(one.decode()) for one in line]
                assert all((r.tenant if r.attempt == 0 else "") == tenant for r in records)
                load = self.redis.hmget(keys.load(name), f"{tenant}:prompt", f"{tenant}:output")
                assert [int(n or 0) for n in load] == [len(line), LENGTH * len(line)]

    @invariant()
    def what_is_counted_is_what_the_records_say(self) -> None:
        for tenant in TENANTS:
            states = [
                state
                for generation_id in self._all()
                if (state := self.redis.hgetall(keys.generation(generation_id)))
                and state[b"tenant"].decode() == tenant
            ]
            going = [state for state in states if state[b"status"] != b"finished"]
            assert self.redis.zcard(keys.open_generations(MODEL, tenant)) == len(going)
            taken = sum(1 + LENGTH for _ in going)
            for state in states:
                if state[b"status"] == b"finished" and int(state[b"attempt"]):
                    taken += 1 + int(state[b"tokens"])
            counts: Counter[str] = Counter()
            for name, count in self.redis.hgetall(keys.spent(MODEL, tenant)).items():
                counts[name.decode().partition(":")[0]] += int(count)
            assert counts["requests"] == len(states)
            assert counts["tokens"] == taken

    # Helpers

    def _lines(self, queue: str) -> dict[str, list[bytes]]:
        found = {
            tenant: self.redis.lrange(keys.line(queue, tenant), 0, -1)
            for tenant in self._all_tenants
        }
        return {tenant: line for tenant, line in found.items() if line}  # type: ignore[misc]

    _all_tenants = ("", *TENANTS)

    def _submission(self, number: int) -> Submission:
        return Submission(
            request_id=f"r{number}",
            model=MODEL,
            job=Job(prompt_token_ids=[number], max_tokens=LENGTH),
            accepted=pb.Accepted(request_id=f"r{number}", num_prompt_tokens=1),
            fingerprint="f",
            timeout_ms=3_600_000,
            queue_timeout_ms=3_600_000,
            retention_seconds=3600,
            priority=keys.PRIORITIES[number % 3],
            tenant=TENANTS[number % 2],
        )

    def _append(self, one: Running, entry: Entry) -> None:
        append = Append(one.generation_id, one.claim.owner, entry)
        result = one.claims.append([append]).get(0)
        if result is None:
            return
        if result.code is WriteCode.UNKNOWN:
            one.claims.restore(one.claim, one.entries)
            self.accepted.add(one.generation_id)
        elif result.code is WriteCode.GAP:
            for missing in one.entries:
                if missing.last > result.tokens and missing.first >= result.tokens:
                    one.claims.append([Append(one.generation_id, one.claim.owner, missing)])

    def _finish(self, one: Running) -> WriteCode:
        finished = finished_message(one.claim.record, pb.FINISH_REASON_LENGTH, 0)
        event = events.finished(one.tokens, one.claim.record.attempt, finished)
        payload = finished.SerializeToString()
        code = one.claims.finish(one.claim, one.tokens, event, payload, 3600).code
        if code is WriteCode.GAP and one.entries:
            self._append(one, one.entries[-1])
        return code

    def _finish_all(self) -> None:
        """All processes are replaced; whatever was accepted must still come to its end."""
        for generation_id in self._all():
            self.lose_lease(generation_id)
        while (claim := self.workers[0].claim(QUEUES, "last")) is not None:
            assert isinstance(claim, Claim)
            one = Running(claim, self.workers[0], list(claim.entries))
            one.advance(LENGTH)
            if one.entries:
                self._append(one, one.entries[-1])
            assert self._finish(one) is WriteCode.WRITTEN
        self.journals_say_everything_in_order_and_end_once()
        self.every_generation_is_in_exactly_one_place()
        for generation_id in self.accepted:
            assert self._record(generation_id).status is Status.FINISHED

    def _all(self) -> list[str]:
        prefix = keys.generation("")
        found: Any = self.redis.keys(f"{prefix}*")
        return [key.decode().removeprefix(prefix) for key in found]

    def _record(self, generation_id: str) -> Record:
        return Record.from_hash(generation_id, self.redis.hgetall(keys.generation(generation_id)))

    def _wait(self, work: Awaitable[_T]) -> _T:
        return self.loop.run_until_complete(work)


@pytest.mark.filterwarnings("ignore:unclosed")
def test_the_protocol_holds_in_any_order(redis_url: str) -> None:
    Protocol.url = redis_url
    run_state_machine_as_test(
        Protocol,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
