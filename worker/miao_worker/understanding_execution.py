"""One claimed job of an encoder while this worker runs it.

It has no tokens to journal: its journal is one terminal entry, which carries the
answer. An attempt that dies leaves nothing behind, and the next begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from miao.internal.v1.queue_pb2 import UnderstandingEntry, UnderstandingResult
from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_pb2 as understanding
from miao_queue.claims import Claim, Entry
from miao_worker.attempt import INTERNAL, Attempt
from miao_worker.engine.encoder.types import (
    EncoderInput,
    EncoderTask,
    EncodingOutput,
    EncodingRequest,
)
from miao_worker.engine.types import FinishReason, SequenceOutput

_TASKS = {
    understanding.TASK_EMBED: EncoderTask.EMBED,
    understanding.TASK_CLASSIFY: EncoderTask.CLASSIFY,
    understanding.TASK_RERANK: EncoderTask.CLASSIFY,
    understanding.TASK_CLASSIFY_TOKENS: EncoderTask.CLASSIFY_TOKENS,
}


class _Answer:
    """The one answer, which the engine brings whole."""

    def __init__(self) -> None:
        self.sequence_id = ""
        self.end: pb.Finished | None = None
        self.rows: tuple[bytes, ...] = ()

    @property
    def runs(self) -> bool:
        return self.end is None


class UnderstandingExecution(Attempt[_Answer]):
    """A claim on an encoder's job, and its answer once there is one."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim)
        self._answer = _Answer()
        self.answers = (self._answer,)
        if claim.job.understanding.task not in _TASKS:  # of a later version's front
            self.fail(INTERNAL, "the worker does not know what is asked of the model")

    @property
    def num_output_tokens(self) -> int:
        return 0

    def request(self, answer: _Answer) -> EncodingRequest:
        """What the engine has to run: all of it."""
        asked = self.claim.job.understanding
        return EncodingRequest(
            sequence_id=answer.sequence_id,
            task=_TASKS[asked.task],
            inputs=tuple(
                EncoderInput(tuple(each.token_ids), tuple(each.type_ids)) for each in asked.inputs
            ),
            normalize=asked.normalize if asked.HasField("normalize") else None,
            dimensions=asked.dimensions or None,
            raw_scores=asked.raw_scores,
        )

    def advance(
        self, outputs: Sequence[tuple[_Answer, SequenceOutput]], now_ms: int
    ) -> list[Entry]:
        """Take the answer; nothing is journalled before the end."""
        for answer, output in outputs:
            if output.finish_reason is FinishReason.ERROR:
                self.fail(INTERNAL, output.error or "the engine could not answer this request")
            elif isinstance(output, EncodingOutput):
                answer.rows = output.rows
                self.end = answer.end = pb.Finished(reason=pb.FINISH_REASON_STOP)
        return []

    def entries_from(self, tokens: int) -> list[Entry]:
        """None: what comes before the end is not journalled."""
        return []

    def end_early(self, reason: pb.FinishReason) -> None:
        """End without an answer."""
        self.end = pb.Finished(reason=reason)

    def terminal_event(self, finished: pb.Finished) -> bytes:
        """The end, and the answer beside it."""
        event = pb.GenerationEvent(attempt=self.claim.record.attempt, finished=finished)
        entry = UnderstandingEntry(event=event)
        if finished.reason == pb.FINISH_REASON_STOP:
            entry.result.CopyFrom(UnderstandingResult(rows=self._answer.rows))
        return entry.SerializeToString()
