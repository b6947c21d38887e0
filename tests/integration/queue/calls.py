"""What callers submit and what a worker does with it, for tests of the queue's books."""

from __future__ import annotations

from typing import Any

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import events, keys
from miao_queue.claims import Append, Claim, ClaimStore, Entry, QueueSource
from miao_queue.limits import Limits
from miao_queue.records import Submission, finished_message
from miao_queue.store import Admission

QUEUES = [QueueSource(name, "m") for name in keys.queue_names("m")]
LONG = 10**9  # seconds: a moved clock makes nothing late


def submission(request_id: str, tenant: str = "acme", **changes: Any) -> Submission:
    """A prompt of a token, to which nine may be said."""
    max_tokens = changes.pop("max_tokens", 9)
    prompt_tokens = changes.pop("prompt_tokens", 1)
    values: dict[str, Any] = {
        "request_id": request_id,
        "model": "m",
        "job": Job(prompt_token_ids=[1] * prompt_tokens, max_tokens=max_tokens),
        "accepted": pb.Accepted(request_id=request_id, num_prompt_tokens=prompt_tokens),
        "fingerprint": "f",
        "timeout_ms": 3_600_000,
        "queue_timeout_ms": 3_600_000,
        "retention_seconds": 3600,
        "tenant": tenant,
    }
    return Submission(**(values | changes))


def admission(**limits: Any) -> Admission:
    return Admission(
        backlog_limit=10_000, require_worker=False, limits=Limits(**limits), within_seconds=LONG
    )


def say(claims: ClaimStore, claim: Claim, count: int) -> None:
    """Append so many tokens to the journal."""
    if count:
        message = pb.Tokens(token_ids=range(count), text_lengths=[0] * count)
        payload = events.tokens(count, claim.record.attempt, message, 0)
        claims.append([Append(claim.record.generation_id, claim.owner, Entry(0, count, payload))])


def end(
    claims: ClaimStore, claim: Claim, tokens: int, reason: pb.FinishReason = pb.FINISH_REASON_STOP
) -> None:
    """Write the terminal event."""
    finished = finished_message(claim.record, reason, claim.now_ms)
    event = events.finished(tokens, claim.record.attempt, finished)
    claims.finish(claim, tokens, event, finished.SerializeToString(), 3600)
