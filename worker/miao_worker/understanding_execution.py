"""One claimed job of an encoder while this worker runs it."""

from __future__ import annotations

from miao.internal.v1.queue_pb2 import UnderstandingEntry, UnderstandingResult
from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_pb2 as understanding
from miao_queue.claims import Claim
from miao_worker.attempt import INTERNAL
from miao_worker.engine.encoder.types import (
    EncoderInput,
    EncoderTask,
    EncodingOutput,
    EncodingRequest,
)
from miao_worker.single_answer import SingleAnswerAttempt, WholeAnswer

_TASKS = {
    understanding.TASK_EMBED: EncoderTask.EMBED,
    understanding.TASK_CLASSIFY: EncoderTask.CLASSIFY,
    understanding.TASK_RERANK: EncoderTask.CLASSIFY,
    understanding.TASK_CLASSIFY_TOKENS: EncoderTask.CLASSIFY_TOKENS,
}


class UnderstandingExecution(SingleAnswerAttempt[EncodingOutput]):
    """A claim on an encoder's job, and its answer once there is one."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim, EncodingOutput)
        if claim.job.understanding.task not in _TASKS:  # of a later version's front
            self.fail(INTERNAL, "the worker does not know what is asked of the model")

    @property
    def num_output_tokens(self) -> int:
        return 0

    def request(self, answer: WholeAnswer[EncodingOutput]) -> EncodingRequest:
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

    def terminal_event(self, finished: pb.Finished) -> bytes:
        """The end, and the answer beside it."""
        event = pb.GenerationEvent(attempt=self.claim.record.attempt, finished=finished)
        entry = UnderstandingEntry(event=event)
        output = self._answer.output
        if finished.reason == pb.FINISH_REASON_STOP and output is not None:
            entry.result.CopyFrom(UnderstandingResult(rows=output.rows))
        return entry.SerializeToString()
