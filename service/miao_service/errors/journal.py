"""What can go wrong with what was accepted: the journal, or the work itself."""

from __future__ import annotations

import grpc

from miao.v1.generation_pb2 import GenerationError
from miao_queue.vault import UnreadableError
from miao_service.errors.base import FrontError

_CODES = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


class JournalLostError(FrontError):
    """What the caller has seen is no longer in the journal."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "JOURNAL_LOST"

    def __init__(self) -> None:
        super().__init__("the generation's journal was lost before its end could be read")


class GenerationLostError(JournalLostError):
    """Redis no longer knows a generation that had been accepted."""


class UnreadableJournalError(FrontError):
    """What is stored of the generation is not what was written, or under keys not known here."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "JOURNAL_UNREADABLE"

    def __init__(self, error: UnreadableError) -> None:
        super().__init__(f"what is stored of the generation cannot be read: {error}")


class OutputChangedError(FrontError):
    """The generation was made again, and its tokens are not those that the caller has seen."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "OUTPUT_CHANGED"

    def __init__(self) -> None:
        super().__init__(
            "the queue lost the end of the output; it was made again, and differently, so what "
            "comes next does not continue what was sent before"
        )


class JobCancelledError(FrontError):
    """The work on an answer was cancelled, by an earlier caller who left or by an operator."""

    code = grpc.StatusCode.ABORTED
    reason = "JOB_CANCELLED"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"the work on the request_id {request_id!r} was cancelled; send it anew, under another "
            "request_id"
        )


class JobOverdueError(FrontError):
    """The time for an answer was over, in the queue or while a worker had it."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "JOB_OVERDUE"

    def __init__(self) -> None:
        super().__init__("the time for the answer was over")


class JobFailedError(FrontError):
    """The work on an answer was accepted and then failed, for the reason that it gives."""

    reason = "JOB_FAILED"

    def __init__(self, error: GenerationError) -> None:
        super().__init__(error.message or "the work on an answer failed")
        self.code = _CODES.get(error.code, grpc.StatusCode.INTERNAL)


class EndedEarlyError(FrontError):
    """What the call waited for has ended without the result that it was to have."""

    reason = "ENDED_EARLY"

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
