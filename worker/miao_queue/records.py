"""A generation's state as Redis holds it, and what fronts and workers make of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue.vault import FINISHED, PLAIN, Vault

TENANT = "default"


class Status(StrEnum):
    """How far a generation is."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class SubmitOutcome(StrEnum):
    """What became of a submission. Only ACCEPTED has written anything."""

    ACCEPTED = "accepted"
    ATTACHED = "attached"  # the same request is known already
    CONFLICT = "conflict"  # the request id is known with another content
    NO_WORKER = "no_worker"
    BACKLOG_FULL = "backlog_full"
    LIMITED = "limited"  # its tenant may not, or not now
    MODEL_CHANGED = "model_changed"  # its tokens are of a vocabulary that the model had before
    LATE = "late"  # Redis came to it after its front had given up
    MOVED = "moved"  # a front that knows of a change has put it on another Redis


class CancelOutcome(StrEnum):
    """What became of a cancellation."""

    MISSING = "missing"
    FINISHED = "finished"  # it had ended before
    RUNNING = "running"  # its worker is told
    CANCELLED = "cancelled"  # it waited and is ended


@dataclass(frozen=True, slots=True)
class Submission:
    """A generation to be queued, complete and checked."""

    request_id: str
    model: str
    job: Job
    accepted: pb.Accepted  # without accept_time, which Redis decides
    fingerprint: str  # equal for equal specs
    timeout_ms: int
    queue_timeout_ms: int
    retention_seconds: int
    priority: str = "normal"
    tenant: str = TENANT
    vocabulary: str = ""  # digest of the one that the prompt's tokens are of; empty: any

    @property
    def generation_id(self) -> str:
        return generation_id(self.tenant, self.request_id)

    @property
    def max_output_tokens(self) -> int:
        """The most that all answers together may say."""
        return self.job.max_tokens * max(1, self.job.num_answers)

    @property
    def max_tokens_in_all(self) -> int:
        """The prompt and the most that may be said to it."""
        return self.accepted.num_prompt_tokens + self.max_output_tokens


@dataclass(frozen=True, slots=True)
class Record:
    """A generation's state, without its prompt."""

    generation_id: str
    request_id: str
    model: str
    tenant: str
    queue: str  # the RQ queue's name
    status: Status
    attempt: int
    tokens: int  # of its journal
    crashes: int  # of engines and workers while it ran, as far as not forgiven
    crashed_alone: bool  # whether nothing else was in the engine at the last of them
    accept_ms: int
    deadline_ms: int
    queue_deadline_ms: int
    retention_seconds: int
    accepted: pb.Accepted
    worker: str | None
    claimed_ms: int | None
    first_token_ms: int | None
    finished: pb.Finished | None
    vocabulary: str = ""  # digest of the one that its tokens are of; empty: not known
    weights: str = ""  # digest of those that its output was begun with
    weight: float = 1.0  # its tenant's
    is_generation: bool = True  # else it is answered once, and is no resource

    @classmethod
    def from_hash(
        cls, generation_id: str, state: Mapping[bytes, bytes], vault: Vault = PLAIN
    ) -> Record:
        """Read the hash of a generation; KeyError if it is not one, UnreadableError for its end."""
        accepted = pb.Accepted.FromString(state[b"accepted"])
        accept_ms = int(state[b"accept_ms"])
        accepted.accept_time.FromMilliseconds(accept_ms)
        finished = state.get(b"finished")
        if finished is not None:
            finished = vault.open(generation_id, FINISHED, finished)
        worker = state.get(b"worker")
        return cls(
            generation_id=generation_id,
            request_id=state[b"request_id"].decode(),
            model=state[b"model"].decode(),
            tenant=state[b"tenant"].decode(),
            queue=state[b"queue"].decode(),
            status=Status(state[b"status"].decode()),
            attempt=int(state[b"attempt"]),
            tokens=int(state[b"tokens"]),
            crashes=int(state.get(b"crashes", 0)),
            crashed_alone=state.get(b"crashed_alone") == b"1",
            accept_ms=accept_ms,
            deadline_ms=int(state[b"deadline_ms"]),
            queue_deadline_ms=int(state[b"queue_deadline_ms"]),
            retention_seconds=int(state[b"retention_seconds"]),
            accepted=accepted,
            worker=None if worker is None else worker.decode(),
            claimed_ms=_optional_int(state, b"claimed_ms"),
            first_token_ms=_optional_int(state, b"first_token_ms"),
            finished=None if finished is None else pb.Finished.FromString(finished),
            vocabulary=state.get(b"vocabulary", b"").decode(),
            weights=state.get(b"weights", b"").decode(),
            weight=float(state.get(b"weight", 1)),
            is_generation=b"task" not in state,
        )

    def to_generation(self, output: pb.Output | None = None) -> pb.Generation:
        """The resource that callers see."""
        return pb.Generation(
            generation_id=self.generation_id,
            request_id=self.request_id,
            model=self.model,
            state=_STATES[self.status],
            attempt=self.attempt,
            accept_time=self.accepted.accept_time,
            sequence_number=self.tokens,
            finished=self.finished,
            output=output,
        )


def usage_text(finished: pb.Finished, *, has_run: bool) -> str:
    """What goes on the bill, as `note_usage` in the scripts reads it.

    Nothing for what no worker has ever had.
    """
    if not has_run:
        return ""
    usage, reason = finished.usage, pb.FinishReason.Name(finished.reason)
    numbers = f"{usage.prompt_tokens} {usage.cached_prompt_tokens} {usage.output_tokens}"
    return f"{numbers} {reason.removeprefix('FINISH_REASON_').lower()}"


def _optional_int(state: Mapping[bytes, bytes], field: bytes) -> int | None:
    value = state.get(field)
    return None if value is None else int(value)


_STATES = {
    Status.QUEUED: pb.GENERATION_STATE_QUEUED,
    Status.RUNNING: pb.GENERATION_STATE_RUNNING,
    Status.FINISHED: pb.GENERATION_STATE_FINISHED,
}


def generation_id(tenant: str, request_id: str) -> str:
    """The id that a tenant's request id leads to.

    Derived, so that the same request at two fronts is one generation without a
    table between them. 26 characters that RQ allows in a job id.
    """
    digest = hashlib.sha256(f"{tenant}\0{request_id}".encode()).digest()
    return base64.b32encode(digest)[:26].decode().lower()


def cache_scope(tenant: str, salt: str = "") -> bytes:
    """Who may find what was computed of a prompt: its tenant, by this salt."""
    return hashlib.blake2b(f"{tenant}\0{salt}".encode(), digest_size=16, person=b"scope").digest()


def fingerprint(spec: Message) -> str:
    """Equal for equal specs of one kind in this version of the contract."""
    kind = b"" if isinstance(spec, pb.GenerationSpec) else spec.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(kind + spec.SerializeToString(deterministic=True)).hexdigest()[:32]


def call_fingerprint(request: Message) -> str:
    """Equal for equal requests to the same method, and for no generation's spec."""
    content = request.SerializeToString(deterministic=True)
    return hashlib.sha256(f"{request.DESCRIPTOR.full_name}\0".encode() + content).hexdigest()[:32]


def finished_message(
    record: Record,
    reason: pb.FinishReason,
    now_ms: int,
    *,
    cached_prompt_tokens: int = 0,
    error: pb.GenerationError | None = None,
    output_tokens: int | None = None,
    first_token_ms: int | None = None,
) -> pb.Finished:
    """The end of a generation, with its usage and where its time went.

    All times in milliseconds of Redis's clock. `output_tokens` and `first_token_ms`
    are given by a worker that knows better than the record.
    """
    finished = pb.Finished(reason=reason, error=error)
    finished.usage.prompt_tokens = record.accepted.num_prompt_tokens
    finished.usage.cached_prompt_tokens = cached_prompt_tokens
    if output_tokens is None:
        output_tokens = max(0, record.tokens - record.accepted.num_echoed_tokens)
    finished.usage.output_tokens = output_tokens
    claimed_ms = now_ms if record.claimed_ms is None else record.claimed_ms
    finished.timings.queued.FromMilliseconds(max(0, claimed_ms - record.accept_ms))
    first_token_ms = record.first_token_ms if first_token_ms is None else first_token_ms
    if first_token_ms is not None:
        finished.timings.first_token.FromMilliseconds(max(0, first_token_ms - record.accept_ms))
    finished.timings.total.FromMilliseconds(max(0, now_ms - record.accept_ms))
    return finished
