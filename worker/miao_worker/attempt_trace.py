"""What a worker tells of one attempt at a job: its wait, its prefill, its decode, its end.

By the names of OpenTelemetry's conventions for generative AI, as far as they have one.
"""

from __future__ import annotations

from miao.v1 import generation_pb2 as pb
from miao.v1.understanding_pb2 import TASK_EMBED
from miao_queue.claims import Claim
from miao_queue.telemetry import traces
from miao_queue.telemetry.traces import NO_SPAN, Attributes, Span


class AttemptTrace:
    """The spans of one attempt. All times are of Redis's clock.

    queue      acceptance ──► first claim
    attempt                   claim ─────────────────────────────► end is written
      prefill                 claim ──► first token
      decode                            first token ──► last
      finish                                            last ──► end is written
    """

    def __init__(self, claim: Claim) -> None:
        self._traces = traces.active()
        self._attempt: Span = NO_SPAN
        self._phase: Span = NO_SPAN
        if not claim.job.traceparent:
            return
        record, parent = claim.record, claim.job.traceparent
        whose: dict[str, traces.Value] = {
            "miao.generation": record.generation_id,
            "miao.tenant": record.tenant,
            "miao.attempt": record.attempt,
        }
        if record.attempt == 1:
            queue = {**whose, "miao.queue": record.queue}
            self._traces.begin("queue", parent, record.accept_ms, queue).end(claim.now_ms)
        operation = _operation(claim)
        name = f"{operation} {record.model}"
        about = {**whose, **_request(claim, operation), "miao.worker": record.worker or ""}
        self._attempt = self._traces.begin(name, parent, claim.now_ms, about)
        self._phase = self._traces.begin("prefill", self._attempt, claim.now_ms, {})

    def note_first(self, now_ms: int, cached_tokens: int) -> None:
        """The first token of this attempt has come."""
        if self._attempt is NO_SPAN:
            return
        self._phase.note({"gen_ai.usage.cache_read.input_tokens": cached_tokens})
        self._next("decode", now_ms)

    def note_last(self, now_ms: int) -> None:
        """Nothing more will come; the end is about to be written."""
        if self._attempt is not NO_SPAN:
            self._next("finish", now_ms)

    def note_end(self, now_ms: int, finished: pb.Finished) -> None:
        """The end is written."""
        reason = pb.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_").lower()
        self._attempt.note(
            {
                "gen_ai.response.finish_reasons": [reason],
                "gen_ai.usage.input_tokens": finished.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": finished.usage.output_tokens,
            }
        )
        if finished.reason == pb.FINISH_REASON_ERROR:
            self._attempt.fail(f"code {finished.error.code}")
        self._close(now_ms)

    def note_lost(self, now_ms: int, why: str) -> None:
        """Another worker has it, or will."""
        self._attempt.fail(why)
        self._close(now_ms)

    def _next(self, name: str, now_ms: int) -> None:
        self._phase.end(now_ms)
        self._phase = self._traces.begin(name, self._attempt, now_ms, {})

    def _close(self, now_ms: int) -> None:
        self._phase.end(now_ms)
        self._attempt.end(now_ms)


def _operation(claim: Claim) -> str:
    if claim.job.HasField("explanation"):
        return "explain"
    if not claim.job.HasField("understanding"):
        return "text_completion"
    return "embeddings" if claim.job.understanding.task == TASK_EMBED else "classify"


def _request(claim: Claim, operation: str) -> Attributes:
    job = claim.job
    about: dict[str, traces.Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "miao",
        "gen_ai.request.model": claim.record.model,
        "gen_ai.response.id": claim.record.generation_id,
    }
    if operation == "text_completion":
        sampling = job.sampling
        about |= {
            "gen_ai.request.max_tokens": job.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.top_k": sampling.top_k,
            "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
            "gen_ai.request.presence_penalty": sampling.presence_penalty,
            "gen_ai.request.choice.count": max(1, job.num_answers),
        }
    return about
