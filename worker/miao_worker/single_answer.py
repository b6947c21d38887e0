"""One claimed job that is answered once, while this worker runs it.

It has no tokens to journal: its journal is one terminal entry, which carries the
answer. An attempt that dies leaves nothing behind, and the next begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from miao.v1 import generation_pb2 as pb
from miao_queue.claims import Claim, Entry
from miao_worker.attempt import INTERNAL, Attempt
from miao_worker.engine.types import FinishReason, SequenceOutput

_Output = TypeVar("_Output", bound=SequenceOutput)


class WholeAnswer(Generic[_Output]):
    """The one answer, which the engine brings whole."""

    def __init__(self) -> None:
        self.sequence_id = ""
        self.end: pb.Finished | None = None
        self.output: _Output | None = None

    @property
    def runs(self) -> bool:
        return self.end is None


class SingleAnswerAttempt(Attempt[WholeAnswer[_Output]], Generic[_Output]):
    """A claim, and its answer once there is one."""

    def __init__(self, claim: Claim, kind: type[_Output]) -> None:
        """`kind`: of the engine's output that is the answer."""
        super().__init__(claim)
        self._kind = kind
        self._answer: WholeAnswer[_Output] = WholeAnswer()
        self.answers = (self._answer,)

    def advance(
        self, outputs: Sequence[tuple[WholeAnswer[_Output], SequenceOutput]], now_ms: int
    ) -> list[Entry]:
        """Take the answer; nothing is journalled before the end."""
        for answer, output in outputs:
            if output.finish_reason is FinishReason.ERROR:
                error = output.error or "the engine could not answer this request"
                self.fail(self._code_of(output), error)
            elif isinstance(output, self._kind):
                answer.output = output
                self.end = answer.end = pb.Finished(reason=pb.FINISH_REASON_STOP)
        return []

    def entries_from(self, tokens: int) -> list[Entry]:
        """None: what comes before the end is not journalled."""
        return []

    def end_early(self, reason: pb.FinishReason) -> None:
        """End without an answer."""
        self.end = pb.Finished(reason=reason)

    def _code_of(self, output: SequenceOutput) -> int:
        """What kind of failure an output with an error is."""
        return INTERNAL
