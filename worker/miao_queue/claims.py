"""What a worker does with generations: claim, append, finish, renew, give back.

Every write names the claim's owner, and Redis refuses it when another worker
has taken the generation over: a worker that has lost its claim writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from redis import Redis

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import events, keys, records, scripts, vault
from miao_queue.protection import UNPROTECTED, Protection
from miao_queue.records import Record
from miao_queue.script_connection import ScriptConnection
from miao_queue.signing import SignatureError
from miao_queue.vault import UnreadableError

_AGING_MS = 30_000  # what has waited for longer may go before what is more urgent
_URGENT_CLAIMS = 4  # claims by urgency between two that look at the wait


class WriteCode(IntEnum):
    """What Redis says to a write under a claim."""

    WRITTEN = 0  # or written before
    CANCEL = 1  # written; the caller asks to cancel
    GAP = 2  # the journal ends earlier: send again from there
    FENCED = 3  # the claim is lost: drop the generation
    UNKNOWN = 4  # Redis has forgotten the generation: restore it


class Entry(NamedTuple):
    """An event for a journal, with the token counts before and after it."""

    first: int
    last: int
    payload: bytes


class Append(NamedTuple):
    """An entry for the journal of one generation."""

    generation_id: str
    owner: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What Redis says, and how many tokens the journal then holds."""

    code: WriteCode
    tokens: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A generation that this worker owns, as it was when claimed.

    `entries` are what earlier attempts have written, `state` is the hash that the
    record was read from. `now_ms` is Redis's time.
    """

    record: Record
    job: Job
    owner: str
    entries: Sequence[Entry]
    now_ms: int
    state: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Crashes:
    """How often engines or workers died under a generation.

    total: in any company, as far as they are not forgiven.
    alone: whether it was the only one in its engine at the last of them.
    runs_alone: whether it is the only one from now on, to see if it is at fault.
    """

    total: int
    alone: bool
    runs_alone: bool = False


@dataclass(frozen=True, slots=True)
class QueueSource:
    """A queue to claim from, and what the worker has of its model.

    The digests say which generations it can go on with: their tokens are of this
    vocabulary, and what output they have was begun with these weights. Empty: any.
    """

    queue: str
    model: str
    vocabulary: str = ""
    weights: str = ""


@dataclass(frozen=True, slots=True)
class StaleJob:
    """A job id from the queue that is not a waiting generation, and must not run."""

    job_id: str


@dataclass(frozen=True, slots=True)
class RefusedJob:
    """A generation that was claimed and ended at once, for it must not run here; and why."""

    generation_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """RQ's `suspend` is in force: nothing may be claimed."""


@dataclass(frozen=True, slots=True)
class ReapedClaim:
    """A claim whose worker has not renewed it; the generation waits again."""

    generation_id: str
    owner: str
    worker: str


class ClaimStore:
    """A worker's view of the generations in Redis."""

    def __init__(
        self,
        connection: Redis,
        worker: str,
        lease_ms: int,
        protection: Protection = UNPROTECTED,
    ) -> None:
        self._redis: Any = connection  # its annotations mix what both kinds of client return
        self._worker = worker
        self._lease_ms = lease_ms
        self._num_urgent = 0  # claims since the last that went to something that waited for long
        self._vault, self._signer = protection.vault, protection.signer
        self._claim = scripts.load(connection, "claim")
        self._append = ScriptConnection(connection, "append")
        self._finish = scripts.load(connection, "finish")
        self._renew = scripts.load(connection, "renew")
        self._release = scripts.load(connection, "release")
        self._reap = scripts.load(connection, "reap")
        self._restore = scripts.load(connection, "restore")
        self._note_crashes = scripts.load(connection, "note_crashes")

    def now_ms(self) -> int:
        """Redis's time."""
        seconds, microseconds = self._redis.time()
        return int(seconds * 1000 + microseconds // 1000)

    def redis_run(self) -> str:
        """Tells one start of Redis from another, and a master from the next."""
        return str(self._redis.info("server")["run_id"])

    def claim(
        self, sources: Sequence[QueueSource], owner: str, barred: Collection[str] = ()
    ) -> Claim | StaleJob | RefusedJob | Suspended | None:
        """Pop and claim the next generation of these queues; None if there is none for us.

        One that this worker cannot go on with comes too, unless a live worker can:
        somebody has to end it. Tenants take turns by what they were served; the
        barred get nothing this time. One of five claims goes to what has waited for
        long, though something more urgent waits.
        """
        may_be_aged = self._num_urgent >= _URGENT_CLAIMS
        words: list[str | int] = [self._worker, owner, self._lease_ms]
        words += (_AGING_MS if may_be_aged else "", len(barred), *barred)
        for source in sources:
            words += (source.queue, source.model, source.vocabulary, source.weights)
        lists = [keys.queue_key(source.queue) for source in sources]
        reply = self._claim(keys=lists, args=words)
        if reply is None:
            return None
        if reply[0] == b"suspended":
            return Suspended()
        if reply[0] == b"stale":
            return StaleJob(reply[1].decode())
        self._num_urgent = 0 if reply[5] else self._num_urgent + 1
        return self._read(reply, owner)

    def append(self, appends: Sequence[Append]) -> dict[int, WriteResult]:
        """Write a step to the journals of a batch, in one call.

        Returns what Redis says to those that were not simply written, by their place.
        """
        words: list[bytes | str | int] = []
        for generation_id, owner, entry in appends:
            payload = entry.payload
            if self._vault.opens:
                payload = self._sealed(generation_id, entry)
            words += (generation_id, owner, entry.first, entry.last, payload)
        reply = self._append(words)
        return {
            reply[i]: WriteResult(WriteCode(reply[i + 1]), reply[i + 2])
            for i in range(0, len(reply), 3)
        }

    def finish(
        self,
        claim: Claim,
        tokens: int,
        event: bytes,
        finished: bytes,
        retention_seconds: int,
        usage: str = "",
    ) -> WriteResult:
        """Write the terminal event, and `usage` on the bill; again is the same as once."""
        ending = event, finished, usage
        return self._end(claim.record, claim.owner, tokens, ending, retention_seconds)

    def renew(self, claims: Sequence[Claim]) -> list[WriteCode]:
        """Extend the leases of these claims; a code for each."""
        if not claims:
            return []
        words: list[str | int] = [self._lease_ms]
        for claim in claims:
            words += (claim.record.generation_id, claim.owner)
        return [WriteCode(code) for code in self._renew(args=words)]

    def release(self, claims: Iterable[Claim]) -> None:
        """Give claims back to the front of their queues, where others find them at once."""
        words: list[str] = []
        for claim in sorted(claims, key=lambda claim: claim.record.accept_ms):
            words += (claim.record.generation_id, claim.owner)
        if words:
            self._release(args=words)

    def restore(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Write a generation again that Redis has forgotten, with these entries.

        Does nothing where Redis knows it.
        """
        state = {k: v for k, v in claim.state.items() if k not in _OF_THE_CLAIM}
        state[b"tokens"] = str(entries[-1].last if entries else 0).encode()
        words: list[bytes | str | int] = [len(state) * 2]
        for field, value in state.items():
            words += (field, value)
        for entry in entries:
            words += (entry.last, self._sealed(claim.record.generation_id, entry))
        self._restore(
            args=[
                *(claim.record.generation_id, claim.owner, self._worker, self._lease_ms),
                *words,
            ]
        )

    def note_crashes(self, crashes: Sequence[tuple[Claim, Crashes]]) -> None:
        """Keep what is known of engines that died, for whoever claims these later."""
        words: list[str | int] = []
        for claim, known in crashes:
            words += (claim.record.generation_id, claim.owner)
            words += (known.total, int(known.alone), int(known.runs_alone))
        self._note_crashes(args=words)

    def reap(self, interval_ms: int, limit: int = 100) -> list[ReapedClaim]:
        """Take back claims that nobody has renewed in time.

        Once in an interval, whichever worker of the fleet asks; else nothing is done.
        """
        words = [word.decode() for word in self._reap(args=[limit, self._worker, interval_ms])]
        return [ReapedClaim(*words[i : i + 3]) for i in range(0, len(words), 3)]

    def _sealed(self, generation_id: str, entry: Entry) -> bytes:
        place = vault.journal_place(events.Position(entry.last).entry_id)
        return self._vault.seal(generation_id, place, entry.payload)

    def _end(
        self,
        record: Record,
        owner: str,
        tokens: int,
        ending: tuple[bytes, bytes, str],
        retention_seconds: int,
    ) -> WriteResult:
        generation_id, (event, finished, usage) = record.generation_id, ending
        place = vault.journal_place(events.Position(tokens, ended=True).entry_id)
        code, written = self._finish(
            args=[
                *(generation_id, owner, tokens),
                self._vault.seal(generation_id, place, event),
                self._vault.seal(generation_id, vault.FINISHED, finished),
                retention_seconds,
                usage,
            ]
        )
        return WriteResult(WriteCode(code), int(written))

    def _read(self, reply: Sequence[Any], owner: str) -> Claim | RefusedJob:
        """A claim from what the script answers, or its end where it must not run."""
        _, name, now_ms, flat, rows = reply[:5]
        generation_id = name.decode()
        state: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
        record = Record.from_hash(generation_id, state, self._vault)
        try:
            if self._signer is not None:
                self._signer.check(generation_id, state)
            job = Job.FromString(self._vault.open(generation_id, vault.JOB, state[b"job"]))
            entries = self._entries(generation_id, rows)
        except (SignatureError, UnreadableError, DecodeError, KeyError) as error:
            return self._refuse(record, owner, int(now_ms), error)
        return Claim(record, job, owner, entries, int(now_ms), state)

    def _entries(self, generation_id: str, rows: Sequence[Any]) -> list[Entry]:
        entries, first = [], 0
        for entry_id, fields in rows:
            payload = fields[fields.index(events.FIELD) + 1]
            place = vault.journal_place(entry_id.decode())
            last = events.Position.of_entry(entry_id).tokens
            entries.append(Entry(first, last, self._vault.open(generation_id, place, payload)))
            first = last
        return entries

    def _refuse(self, record: Record, owner: str, now_ms: int, error: Exception) -> RefusedJob:
        """End it: nobody may run it, and nobody would ever."""
        reason = f"its job {error}"
        if isinstance(error, UnreadableError):
            reason = f"what is stored of it cannot be read: {error}"
        elif not isinstance(error, SignatureError):
            reason = "what is stored of it is no job"
        failure = pb.GenerationError(
            code=_DATA_LOSS, message=f"the generation cannot run: {reason}"
        )
        finished = records.finished_message(record, pb.FINISH_REASON_ERROR, now_ms, error=failure)
        event = events.finished(record.tokens, record.attempt, finished)
        self._end(
            record,
            owner,
            record.tokens,
            (
                event,
                finished.SerializeToString(),
                records.usage_text(finished, has_run=record.tokens > 0),
            ),
            record.retention_seconds,
        )
        return RefusedJob(record.generation_id, reason)


_DATA_LOSS = 15  # gRPC's number
_OF_THE_CLAIM = {b"status", b"owner", b"worker", b"tokens", b"cancel", b"alone", b"line"}
