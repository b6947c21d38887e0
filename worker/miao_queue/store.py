"""What a front does with generations: submit, read, list, cancel."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from miao.v1 import generation_pb2 as pb
from miao_queue import events, keys, records, scripts, signing, vault
from miao_queue.clock import RedisClock
from miao_queue.durability import Durability
from miao_queue.limits import UNLIMITED, WAIT_MARGIN, Limit, LimitReached, Limits
from miao_queue.protection import UNPROTECTED, Protection
from miao_queue.records import CancelOutcome, Record, Submission, SubmitOutcome
from miao_queue.rq_jobs import RqJobs, Word

_AS_REDIS_IS_SET = Durability()
_BAR = "@"  # begins the fingerprint of what bar.lua has barred


@dataclass(frozen=True, slots=True)
class Admission:
    """What a front demands before it accepts a generation.

    backlog_limit: the most generations of a model that may wait.
    require_worker: refuse where no live worker serves the model.
    require_vocabulary: refuse tokens of a vocabulary that the model no longer has.
    limits: what the tenant may ask of the model.
    enforce_limits: else they are only counted.
    predict: refuse what would wait for longer than it may, as far as that can be told.
    within_seconds: how long Redis may take to come to it. What a front has given
        up must not be accepted when a Redis that was frozen goes on.
    """

    backlog_limit: int
    require_worker: bool
    require_vocabulary: bool = True
    limits: Limits = UNLIMITED
    enforce_limits: bool = True
    predict: bool = True
    within_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission; `backlog` with BACKLOG_FULL, `reached` with LIMITED."""

    outcome: SubmitOutcome
    generation_id: str
    accept_ms: int = 0
    backlog: int = 0
    reached: LimitReached | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a tenant's generations, newest first, and where the next begins."""

    records: Sequence[Record]
    next_cursor: str | None


class GenerationStore:
    """A front's view of the generations in Redis."""

    def __init__(
        self,
        connection: Redis,
        front_id: str,
        durability: Durability = _AS_REDIS_IS_SET,
        protection: Protection = UNPROTECTED,
    ) -> None:
        self._redis: Any = connection  # its annotations mix what both kinds of client return
        self._front_id = front_id
        self._durability = durability
        self._vault, self._signer = protection.vault, protection.signer
        self._clock = RedisClock(connection)
        self._jobs = RqJobs()
        self._submit = scripts.load_async(connection, "submit")
        self._cancel = scripts.load_async(connection, "cancel")
        self._bar = scripts.load_async(connection, "bar")

    async def submit(self, submission: Submission, admission: Admission) -> Submitted:
        """Admit and enqueue in one step; a refused submission has written nothing.

        Also wakes this front's journal reader, so that it looks at the new
        journal at once. Raises NotDurableError where it is submitted, but not
        known to be as safe as it must be.
        """
        deadline = time.monotonic() + admission.within_seconds
        plain = submission.fingerprint
        submission = dataclasses.replace(submission, fingerprint=self._vault.fingerprint(plain))
        submitted = await self._submit_until(deadline, submission, admission)
        if submitted.outcome is not SubmitOutcome.CONFLICT:
            return submitted
        known = await self._redis.hget(keys.generation(submission.generation_id), "fingerprint")
        text = (known or b"").decode()
        if text.startswith(_BAR):
            return Submitted(SubmitOutcome.MOVED, submission.generation_id)
        if self._vault.opens:  # perhaps the same, written under another key
            former = self._vault.fingerprint_as(plain, text)
            if former is not None and former != submission.fingerprint:
                submission = dataclasses.replace(submission, fingerprint=former)
                submitted = await self._submit_until(deadline, submission, admission)
        return submitted

    async def bar(self, generation_id: str, other: str, ttl_ms: int) -> str | None:
        """Keep an id from being accepted here, for the `other` Redis is about to.

        None where it is here; else where it is said to be, which an earlier bar may know better.
        """
        reply = await self._bar(args=[generation_id, other, ttl_ms])
        return None if reply == b"known" else str(reply.decode())

    async def has(self, generation_id: str) -> bool:
        """Whether a generation, of whatever tenant, is here."""
        return bool(await self._redis.hexists(keys.generation(generation_id), "status"))

    async def _submit_until(
        self, deadline: float, submission: Submission, admission: Admission
    ) -> Submitted:
        result = await self._submit_by(deadline, submission, admission)
        if result.outcome is SubmitOutcome.LATE:
            self._clock.forget()
            result = await self._submit_by(deadline, submission, admission)
        return result

    async def get(self, generation_id: str, tenant: str = records.TENANT) -> Record | None:
        """A tenant's generation; None if there is none of this id."""
        state = await self._redis.hgetall(keys.generation(generation_id))
        if b"status" not in state:
            return None
        record = Record.from_hash(generation_id, state, self._vault)
        return record if record.tenant == tenant else None

    async def output(self, generation_id: str) -> pb.Output:
        """What a generation has said so far."""
        entries = await self._redis.xrange(keys.journal(generation_id))
        return events.output(
            self._vault.open(
                generation_id, vault.journal_place(entry_id.decode()), fields[events.FIELD]
            )
            for entry_id, fields in entries
        )

    async def list_page(
        self, page_size: int, cursor: str | None = None, tenant: str = records.TENANT
    ) -> Page:
        """A page of a tenant's generations.

        The cursor is the last page's `next_cursor`; ValueError if it is not one.
        """
        index = keys.tenant(tenant)
        members = await self._index_after(index, cursor, page_size + 1)
        pipeline = self._redis.pipeline(transaction=False)
        for member, _ in members[:page_size]:
            pipeline.hgetall(keys.generation(member))
        states = await pipeline.execute()
        found, gone = [], []
        for (member, _), state in zip(members[:page_size], states, strict=True):
            if not state:
                gone.append(member)
                continue
            with contextlib.suppress(vault.UnreadableError):  # under a key that is gone
                found.append(Record.from_hash(member, state, self._vault))
        if gone:
            await self._redis.zrem(index, *gone)
        more = len(members) > page_size
        last_id, last_score = members[page_size - 1] if more else ("", 0.0)
        return Page(found, f"{int(last_score)}:{last_id}" if more else None)

    async def cancel(self, generation_id: str, tenant: str = records.TENANT) -> CancelOutcome:
        """End a generation that waits, or tell the worker of one that runs."""
        while True:
            record = await self.get(generation_id, tenant)
            if record is None:
                return CancelOutcome.MISSING
            words = await self._end_words(record, pb.FINISH_REASON_CANCELLED)
            outcome = await self._cancel(args=words)
            if outcome != b"moved":
                return CancelOutcome(outcome.decode())

    async def expire_overdue(self, limit: int = 100) -> int:
        """End what has waited in the queues for longer than it may; returns how many.

        Several fronts may do it at once: each generation ends once.
        """
        now_ms = await self._now_ms()
        overdue = await self._redis.zrangebyscore(keys.WAITING, "-inf", now_ms, start=0, num=limit)
        ended = 0
        for member in overdue:
            state = await self._redis.hgetall(keys.generation(member.decode()))
            if not state:
                await self._redis.zrem(keys.WAITING, member)
                continue
            record = Record.from_hash(member.decode(), state, self._vault)
            words = await self._end_words(record, pb.FINISH_REASON_DEADLINE_EXCEEDED)
            ended += await self._cancel(args=words) == b"cancelled"
        return ended

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._redis.time()
        return int(seconds * 1000 + microseconds // 1000)

    async def _index_after(
        self, index: str, cursor: str | None, count: int
    ) -> list[tuple[str, float]]:
        """Members behind the cursor with their scores, newest first."""
        if cursor is None:
            rows = await self._redis.zrevrange(index, 0, count - 1, withscores=True)
            return [(member.decode(), score) for member, score in rows]
        score, separator, last_id = cursor.partition(":")
        if not separator or not score.isdigit():
            raise ValueError("not a cursor of this list")
        rank = await self._redis.zrevrank(index, last_id)
        if rank is not None:
            rows = await self._redis.zrevrange(index, rank + 1, rank + count, withscores=True)
            return [(member.decode(), score) for member, score in rows]
        # It has expired meanwhile, or lies on another Redis: those of its millisecond that
        # would come behind it, and all that are older.
        equal = await self._redis.zcount(index, score, score)
        rows = await self._redis.zrevrangebyscore(
            index, score, "-inf", start=0, num=count + equal, withscores=True
        )
        found = [(member.decode(), at) for member, at in rows]
        return [(name, at) for name, at in found if (at, name) < (float(score), last_id)][:count]

    async def _submit_by(
        self, deadline: float, submission: Submission, admission: Admission
    ) -> Submitted:
        latest_ms = await self._clock.ms_at(deadline)
        reply = await self._run_submit(self._submit_words(submission, admission, latest_ms))
        return _read_submitted(submission.generation_id, reply)

    async def _run_submit(self, words: list[Word]) -> Any:
        if not self._durability.is_asked_for:
            return await self._submit(args=words)
        pipeline = self._redis.pipeline(transaction=False)
        await self._submit(args=words, client=pipeline)
        self._durability.ask(pipeline)
        reply, answer = await pipeline.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        self._durability.check(answer)
        return reply

    def _submit_words(
        self, submission: Submission, admission: Admission, latest_ms: int
    ) -> list[Word]:
        queue = keys.queue_name(submission.model, submission.priority)
        job = submission.job.SerializeToString()
        state: list[Word] = [
            *("request_id", submission.request_id),
            *("queue", queue),
            *("job", self._vault.seal(submission.generation_id, vault.JOB, job)),
            *("accepted", submission.accepted.SerializeToString()),
            *("retention_seconds", submission.retention_seconds),
            *("vocabulary", submission.vocabulary),
        ]
        if submission.job.HasField("understanding"):
            state += ("task", submission.job.understanding.task)
        elif submission.job.HasField("explanation"):
            state += ("task", "explain")
        if submission.accepted.num_echoed_tokens:
            state += ("echoed_tokens", submission.accepted.num_echoed_tokens)
        if self._signer is not None:
            state += (signing.FIELD, _signature(self._signer, submission, state))
        return [
            submission.generation_id,
            submission.fingerprint,
            submission.model,
            submission.tenant,
            self._front_id,
            admission.backlog_limit,
            int(admission.require_worker),
            submission.timeout_ms,
            submission.queue_timeout_ms,
            latest_ms,
            submission.vocabulary if admission.require_vocabulary else "",
            submission.priority,
            *_limit_words(submission.priority, admission),
            submission.accepted.num_prompt_tokens,
            submission.max_output_tokens,
            len(state),
            *state,
            *self._jobs.enqueue(submission.generation_id, queue, submission.retention_seconds),
        ]

    async def _end_words(self, record: Record, reason: pb.FinishReason) -> list[Word]:
        finished = records.finished_message(record, reason, await self._now_ms())
        event = events.finished(record.tokens, record.attempt, finished)
        end = vault.journal_place(events.Position(record.tokens, ended=True).entry_id)
        seal = functools.partial(self._vault.seal, record.generation_id)
        return [
            record.generation_id,
            record.tenant,
            int(reason == pb.FINISH_REASON_DEADLINE_EXCEEDED),
            record.tokens,
            seal(end, event),
            seal(vault.FINISHED, finished.SerializeToString()),
            record.retention_seconds,
            records.usage_text(finished, has_run=record.attempt > 0),
            *self._jobs.cancel(record.generation_id, record.queue, record.retention_seconds),
        ]


def _limit_words(priority: str, admission: Admission) -> list[Word]:
    limits = admission.limits
    counts = (
        limits.request_tokens,
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.concurrent_generations,
        limits.backlog,
    )
    return [
        int(admission.enforce_limits),
        int(priority in limits.priorities),
        *("" if count is None else count for count in counts),
        limits.weight,
        WAIT_MARGIN if admission.predict and admission.enforce_limits else "",
    ]


def _read_submitted(generation_id: str, reply: Sequence[Any]) -> Submitted:
    outcome, number = SubmitOutcome(reply[0].decode()), reply[1]
    match outcome:
        case SubmitOutcome.ACCEPTED:
            return Submitted(outcome, generation_id, accept_ms=number)
        case SubmitOutcome.BACKLOG_FULL:
            return Submitted(outcome, generation_id, backlog=number)
        case SubmitOutcome.LIMITED:
            reached = LimitReached(Limit(reply[2].decode()), reply[3], reply[4])
            return Submitted(outcome, generation_id, reached=reached)
        case _:
            return Submitted(outcome, generation_id)


def _signature(signer: signing.Signer, submission: Submission, words: Sequence[Word]) -> str:
    """For a state as the script is going to write it."""
    state = dict(zip(map(str, words[::2]), words[1::2], strict=True)) | {
        "model": submission.model,
        "tenant": submission.tenant,
        "fingerprint": submission.fingerprint,
    }
    named = {name: _as_bytes(state[name]) for name in signing.SIGNED if name in state}
    return signer.sign(submission.generation_id, named)


def _as_bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
