"""The course of one stream over its connections, without any I/O.

The synchronous and the asynchronous stream drive this alike: open the call that
`next_call` names, hand what arrives to `receive` and what fails to `failed`,
wait as told, and begin again, until `over`.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from miao.v1 import generation_service_pb2 as service_pb
from miao_client import errors, methods
from miao_client.deadline import Clock, Deadline
from miao_client.failures import Failure
from miao_client.methods import Method
from miao_client.options import Submission
from miao_client.progress import Progress
from miao_client.recovery import Recovery
from miao_client.results import Chunk, Ending, FinishReason, GenerationResult
from miao_client.retry_budget import RetryBudget
from miao_client.settings import Settings
from miao_client.traces import NO_CALL_TRACE, NO_TRACES, CallTrace, Carried

ENDED_EARLY = Failure(grpc.StatusCode.UNAVAILABLE, "The stream ended before the generation did.")
_MOST_IDS = 16  # that are tried, where parts of the queue do not answer
CLOSE_TIMEOUT_SECONDS = 5.0  # for telling the service that a stream was left


class NextCall(NamedTuple):
    """A call to open."""

    method: Method
    request: Message
    timeout: float | None
    metadata: Carried


class StreamState:
    """What a stream has delivered, how it ended, and how it goes on after a failure."""

    def __init__(
        self,
        settings: Settings,
        submission: Submission | None = None,
        *,
        generation_id: str | None = None,
        after: int = 0,
        timeout: float | None = None,
        budget: RetryBudget | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.submission = submission
        self.cancel_on_close = submission is not None and submission.cancel_on_close
        self.over = False
        self.error: errors.MiaoError | None = None
        self._progress = Progress(generation_id, after)
        self._cancelled = False
        self._is_forgotten = False  # by the service, after it had accepted it
        self._num_ids = 1
        self._may_be_known = False  # to the service, though it has not said so
        self._deadline = Deadline(timeout, clock)
        self._awaits_first = True
        self._trace: CallTrace = NO_CALL_TRACE
        if settings.traces is not NO_TRACES:
            opening = self.next_call()
            path, target = opening.method.path, settings.targets[0]
            self._trace = settings.traces.begin(path, opening.request, target)
        method = methods.GENERATE if submission else methods.FOLLOW
        self._recovery = Recovery(settings, method.not_found, clock, budget=budget)

    @property
    def generation_id(self) -> str | None:
        """The generation's id, once it is known."""
        return self._progress.generation_id

    def result(self) -> GenerationResult:
        """All that has come so far."""
        return self._progress.result()

    def next_call(self) -> NextCall:
        """The call that continues the stream where it is.

        Raises:
            DeadlineExceededError: There is no time left.
        """
        remaining = self._deadline.remaining()
        if remaining == 0:
            raise self.fail(errors.DeadlineExceededError("The timeout is over."))
        begins = self.generation_id is None or self._is_forgotten
        if begins and self.submission is not None:
            return NextCall(
                methods.GENERATE, self.submission.request, remaining, self._trace.carried
            )
        request = service_pb.FollowGenerationRequest(
            generation_id=self.generation_id or "",
            after_sequence_number=self._progress.seen,
            output_digest=self._progress.digest,
        )
        return NextCall(methods.FOLLOW, request, remaining, self._trace.carried)

    def receive(self, response: Any) -> Chunk | None:
        """Take what a call brought; returns what is new in it.

        Raises:
            MiaoError: Tokens are missing, or the generation ended otherwise than well.
        """
        if self._is_forgotten and response.event.HasField("accepted"):
            self._is_forgotten = False  # one that is forgotten again and again does not progress
        else:
            self._recovery.progressed()
        try:
            chunk = self._progress.take(response.event)
        except errors.MiaoError as error:
            raise self.fail(error) from None
        if chunk is not None and self._awaits_first:
            self._awaits_first = False
            self._trace.note("first_token", {})
        if self._progress.ending is not None:
            self._end(self._progress.ending)
        return chunk

    def failed(self, failure: Failure) -> float:
        """Seconds to wait before the stream goes on after a failed call.

        A generation that the service has forgotten is submitted again, where
        this stream has submitted it. One that is only followed, and of which
        something has come, may be restored by its worker or submitted again by
        another: that is awaited. The stream may be over instead: when it
        was cancelled before the service had it.

        Raises:
            MiaoError: The stream cannot go on.
        """
        accepted = self.generation_id is not None
        if self._cancelled and (failure.is_forgotten or not accepted):
            self.close()
            return 0.0
        if self._goes_elsewhere(failure):
            return 0.0
        self._may_be_known = self._may_be_known or not failure.is_unsent
        if accepted and self.submission is not None and failure.is_forgotten:
            self._is_forgotten = True
        try:
            wait = self._recovery.next_try(
                failure,
                accepted=accepted,
                forgotten=self._is_forgotten,
                restorable=self.submission is None and self._progress.has_begun,
            )
        except errors.GenerationNotFoundError as error:
            raise self.fail(error) from None
        except errors.NotFoundError as error:
            raise self.fail(self._lost() if self.generation_id else error) from None
        except errors.MiaoError as error:
            raise self.fail(error) from None
        about: dict[str, str | int] = {"error.type": failure.code.name}
        self._trace.note("resume", about | {"miao.sequence_number": self._progress.seen})
        return self._deadline.cut(wait)

    def _goes_elsewhere(self, failure: Failure) -> bool:
        """Whether another request id was taken: where the id is ours, and nobody knows it."""
        submission = self.submission
        if submission is None or not submission.draws_id or not failure.may_go_elsewhere:
            return False
        if self._may_be_known or self._num_ids >= _MOST_IDS:
            return False
        self._num_ids += 1
        self.submission = submission.under_another_id()
        return True

    def check_open(self) -> None:
        """Make sure that the stream may still bring something.

        Raises:
            MiaoError: Why it will not.
        """
        if self.over:
            raise self.error or errors.GenerationCancelledError(
                "The stream was left before the service accepted the generation."
            )

    def cancelled(self) -> None:
        """The caller has cancelled: an end for that reason is no error."""
        self._cancelled = True

    def close(self) -> None:
        """Nothing more is wanted."""
        self.over = True
        self._close_trace(None)

    def fail(self, error: errors.MiaoError) -> errors.MiaoError:
        """End the stream with this error, which gets what has come so far."""
        error.result = self.result()
        self.error = error
        self.over = True
        self._close_trace(error)
        return error

    def _lost(self) -> errors.DataLossError:
        return errors.DataLossError(
            f"The service no longer knows generation {self.generation_id}, which it had accepted."
        )

    def _end(self, ending: Ending) -> None:
        self.over = True
        error = _error_of(ending)
        own = self._cancelled and ending.reason is FinishReason.CANCELLED
        if error is not None and not own:
            raise self.fail(error)
        self._close_trace(None)

    def _close_trace(self, error: errors.MiaoError | None) -> None:
        self._trace.ended(self._progress.accepted, self._progress.ending)
        self._trace.end(error)


def _error_of(ending: Ending) -> errors.MiaoError | None:
    match ending.reason:
        case FinishReason.CANCELLED:
            return errors.GenerationCancelledError("The generation was cancelled.")
        case FinishReason.DEADLINE_EXCEEDED:
            return errors.DeadlineExceededError("The generation's time was over before its end.")
        case FinishReason.ERROR:
            message = ending.error_message or "The generation failed."
            if ending.error_code == errors.DataLossError.code:
                return errors.DataLossError(message)
            return errors.GenerationFailedError(message, reason=ending.error_code or "UNKNOWN")
    return None
