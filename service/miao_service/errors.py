"""What a call can be refused with.

FrontError
├── NoCredentialsError       UNAUTHENTICATED     the caller shows nothing
├── BadCredentialsError      UNAUTHENTICATED     what it shows is not valid; never why
│   └── ExpiredCredentialsError  UNAUTHENTICATED they were valid, and are no longer
├── IssuerUnavailableError   UNAVAILABLE         the keys that tokens are signed with are not there
├── MissingScopeError        PERMISSION_DENIED   the credentials are not for this
├── InvalidRequestError      INVALID_ARGUMENT    a field, and its limit
├── ModelNotFoundError       NOT_FOUND           with the models there are
├── GenerationNotFoundError  NOT_FOUND           unknown, another tenant's, or expired
├── RequestConflictError     ALREADY_EXISTS      the request id names another content
├── NoWorkerError            UNAVAILABLE         come back later
├── ModelChangedError        UNAVAILABLE         the model has just been replaced; call again
├── BacklogFullError         RESOURCE_EXHAUSTED  come back later
├── LimitReachedError        RESOURCE_EXHAUSTED  the tenant has used up one of its limits
├── WaitTooLongError         RESOURCE_EXHAUSTED  it would wait for longer than it may
├── RequestTooLargeError     INVALID_ARGUMENT    more tokens than the tenant may ask for at once
├── PriorityDeniedError      PERMISSION_DENIED   the tenant may not have this priority
├── QueueFullError           RESOURCE_EXHAUSTED  Redis has no memory left
├── QueueUnavailableError    UNAVAILABLE         Redis does not answer
├── UnsafeAcceptanceError    UNAVAILABLE         stored, but not as safely as promised
├── DrainingError            UNAVAILABLE         this front is about to stop
├── JournalLostError         DATA_LOSS           the journal holds less than the caller has seen
│   └── GenerationLostError      DATA_LOSS       Redis no longer knows the generation
├── UnreadableJournalError   DATA_LOSS           what is stored is encrypted otherwise, or forged
├── OutputChangedError       DATA_LOSS           made again, it says something else than was seen
├── JobCancelledError        ABORTED             somebody ended the work on an answer
├── JobOverdueError          DEADLINE_EXCEEDED   an answer's time was over
├── JobFailedError           as it failed        the work on an answer failed
├── CallerLeftError          CANCELLED           nobody reads this
├── EndedEarlyError          by its end          what was to be answered has ended otherwise
└── UnexpectedError          INTERNAL            a fault of ours; the log has its id

A message is for the caller and never holds prompt or output text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from redis import exceptions as redis_errors

from miao.v1.generation_pb2 import GenerationError
from miao_queue.vault import UnreadableError

DOMAIN = "miao"

_CODES = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}

# Headers are limited to 8 KiB by most peers, and the status travels in them.
_MAX_MESSAGE_CHARS = 1000
_MAX_VIOLATIONS = 16


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a field of a request."""

    field: str
    description: str


class FrontError(Exception):
    """The base of all refusals: a gRPC status with details."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"
    retry_after_seconds: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = _shorten(message, _MAX_MESSAGE_CHARS)

    def details(self) -> list[Message]:
        """The `google.rpc` messages that go with the status."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)
        if self.retry_after_seconds is None:
            return [info]
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(self.retry_after_seconds * 1000))
        return [info, retry]

    def to_status(self) -> status_pb2.Status:
        """The rich status, as `grpc-status-details-bin` carries it."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details():
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        return status


class NoCredentialsError(FrontError):
    """The front asks who calls, and the caller does not say."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "NO_CREDENTIALS"

    def __init__(self) -> None:
        super().__init__("this service must know who calls, and the call has no credentials")


class BadCredentialsError(FrontError):
    """Nobody is known by these credentials. Never says what of them is wrong."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "BAD_CREDENTIALS"

    def __init__(self, message: str = "the credentials are not valid") -> None:
        super().__init__(message)


class ExpiredCredentialsError(BadCredentialsError):
    """They are genuine, and their time is over."""

    reason = "EXPIRED_CREDENTIALS"

    def __init__(self) -> None:
        super().__init__("the credentials have expired")


class IssuerUnavailableError(FrontError):
    """Tokens cannot be checked: their issuer's keys are not known, or too old."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ISSUER_UNAVAILABLE"
    retry_after_seconds = 2.0

    def __init__(self) -> None:
        super().__init__("tokens cannot be checked at the moment")


class MissingScopeError(FrontError):
    """The caller is known, and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "MISSING_SCOPE"

    def __init__(self, scope: str) -> None:
        super().__init__(f"the credentials lack the scope {scope!r}, which this call needs")
        self._scope = scope

    def details(self) -> list[Message]:
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)
        info.metadata["scope"] = self._scope
        return [info]


class InvalidRequestError(FrontError):
    """The request is not one that can be answered, now or later."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = list(violations)
        super().__init__("; ".join(_sentences(self.violations)))

    @classmethod
    def of(cls, field: str, description: str) -> InvalidRequestError:
        """For one field."""
        return cls([Violation(field, description)])

    def details(self) -> list[Message]:
        bad = error_details_pb2.BadRequest()
        for violation in self.violations[:_MAX_VIOLATIONS]:
            bad.field_violations.add(
                field=_shorten(violation.field, 100),
                description=_shorten(violation.description, 200),
            )
        return [*super().details(), bad]


class ModelNotFoundError(FrontError):
    """No worker has announced the model."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = ", ".join(known) or "none yet"
        super().__init__(f"there is no model named {_shorten(name, 64)!r}; there are: {names}")


class GenerationNotFoundError(FrontError):
    """There is no such generation for this caller."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "GENERATION_NOT_FOUND"

    def __init__(self, generation_id: str) -> None:
        super().__init__(
            f"there is no generation {_shorten(generation_id, 64)!r}: it never was, or it ended "
            "long ago and has expired"
        )


class RequestConflictError(FrontError):
    """The request id is known with another content."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "REQUEST_ID_CONFLICT"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"the request_id {request_id!r} was used before with another spec; equal specs attach "
            "to the generation that exists, others need a request_id of their own"
        )


class NoWorkerError(FrontError):
    """No live worker serves the model."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "NO_WORKER"
    retry_after_seconds = 2.0

    def __init__(self, model: str) -> None:
        what = f"the model {model!r}" if model else "any model"
        super().__init__(f"no worker serves {what} at the moment")


class ModelChangedError(FrontError):
    """The prompt was tokenized for a model that another of its name has just replaced."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "MODEL_CHANGED"
    retry_after_seconds = 0.1

    def __init__(self, model: str) -> None:
        super().__init__(f"the model {model!r} has just been replaced by another of its name")


class BacklogFullError(FrontError):
    """As many generations of the model wait as may wait."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "BACKLOG_FULL"
    retry_after_seconds = 1.0

    def __init__(self, model: str, waiting: int, limit: int) -> None:
        super().__init__(
            f"{waiting} generations wait for the model {model!r} already; the limit is {limit}"
        )
        self._model = model

    def details(self) -> list[Message]:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=f"backlog:{self._model}", description=self.message)
        return [*super().details(), failure]


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit of a tenant's policy, and what is used of it.

    limit: its name in policies; value: what it allows.
    """

    tenant: str
    model: str
    limit: str
    value: int
    used: int

    @property
    def subject(self) -> str:
        return f"tenant:{self.tenant}/model:{self.model}/{self.limit}"


class LimitReachedError(FrontError):
    """The tenant has used up one of its limits with the model; after a while there is room."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "LIMIT_REACHED"

    def __init__(self, use: LimitUse, requested: int, retry_after_seconds: float) -> None:
        more = f", and this request needs {requested:,} more" if requested > 1 else ""
        super().__init__(
            f"the limit {use.limit} of the tenant {use.tenant!r} with the model {use.model!r} is "
            f"{use.value:,}; {use.used:,} are used{more}; try again in {retry_after_seconds:.1f} s"
        )
        self.retry_after_seconds = retry_after_seconds
        self._use = use

    def details(self) -> list[Message]:
        return _quota_details(super().details(), self._use, self.message)


class WaitTooLongError(FrontError):
    """What waits already takes longer than the request may wait."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "WAIT_TOO_LONG"

    def __init__(self, model: str, wait_ms: int, limit_ms: int, retry_after_seconds: float) -> None:
        super().__init__(
            f"the request may wait for {limit_ms / 1000:g} s, but what waits for the model "
            f"{model!r} already takes some {wait_ms / 1000:.1f} s; allow more, "
            "or try again later"
        )
        self.retry_after_seconds = retry_after_seconds
        self._model = model

    def details(self) -> list[Message]:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=f"wait:{self._model}", description=self.message)
        return [*super().details(), failure]


class RequestTooLargeError(InvalidRequestError):
    """One request asks for more tokens than its tenant may have at once, at any time."""

    reason = "REQUEST_TOO_LARGE"

    def __init__(self, use: LimitUse, field: str) -> None:
        super().__init__(
            [
                Violation(
                    field,
                    f"prompt and output may come to {use.used:,} tokens; the limit {use.limit} of "
                    f"the tenant {use.tenant!r} with the model {use.model!r} is {use.value:,}",
                )
            ]
        )
        self._use = use

    def details(self) -> list[Message]:
        return _quota_details(super().details(), self._use, self.message)


class PriorityDeniedError(FrontError):
    """The tenant's policy does not have this priority."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PRIORITY_DENIED"

    def __init__(self, tenant: str, model: str, priority: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"the tenant {tenant!r} may not ask the model {model!r} with the priority {priority}; "
            f"the limit priorities allows {', '.join(allowed)}"
        )


class QueueFullError(FrontError):
    """Redis has no memory left for new generations."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"
    retry_after_seconds = 5.0

    def __init__(self) -> None:
        super().__init__("the queue has no memory left for new generations")

    def details(self) -> list[Message]:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject="queue:memory", description=self.message)
        return [*super().details(), failure]


class QueueUnavailableError(FrontError):
    """Redis does not answer, or refuses writes."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "QUEUE_UNAVAILABLE"
    retry_after_seconds = 1.0

    def __init__(self) -> None:
        super().__init__("the queue does not answer at the moment")


class UnsafeAcceptanceError(FrontError):
    """The generation is stored, but not known to be where an acceptance must have arrived."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "NOT_DURABLE"
    retry_after_seconds = 1.0

    def __init__(self, request_id: str, why: str) -> None:
        super().__init__(
            f"the request cannot be called accepted: {why}; the same request_id {request_id!r} "
            "attaches to it later"
        )


class DrainingError(FrontError):
    """The front is about to stop; another, or its successor, goes on."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"
    retry_after_seconds = 0.0

    def __init__(self) -> None:
        super().__init__("this front is about to stop; reconnect and follow the generation")


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


class CallerLeftError(FrontError):
    """A message could not be sent: nobody takes it any more, nor this error."""

    code = grpc.StatusCode.CANCELLED
    reason = "CALLER_LEFT"

    def __init__(self) -> None:
        super().__init__("the caller has left")


class EndedEarlyError(FrontError):
    """What the call waited for has ended without the result that it was to have."""

    reason = "ENDED_EARLY"

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnexpectedError(FrontError):
    """A fault of ours."""

    def __init__(self, error_id: str) -> None:
        super().__init__(f"the front failed unexpectedly; its log says more under {error_id}")


def _quota_details(details: list[Message], use: LimitUse, message: str) -> list[Message]:
    """The limit in words and, for programs, in `ErrorInfo.metadata`."""
    info = details[0]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    info.metadata.update(
        tenant=use.tenant,
        model=use.model,
        limit=use.limit,
        value=str(use.value),
        used=str(use.used),
    )
    failure = error_details_pb2.QuotaFailure()
    failure.violations.add(subject=use.subject, description=message)
    return [*details, failure]


def from_redis(error: Exception) -> FrontError:
    """What an error of the Redis client means for a caller."""
    # An error within a script is its own from Redis 7 on, and only quoted before.
    if isinstance(error, redis_errors.OutOfMemoryError) or "OOM command not" in str(error):
        return QueueFullError()
    return QueueUnavailableError()


def _sentences(violations: Sequence[Violation]) -> Iterable[str]:
    for violation in violations[:4]:
        yield (
            f"{violation.field}: {violation.description}"
            if violation.field
            else (violation.description)
        )
    if len(violations) > 4:
        yield f"and {len(violations) - 4} more"


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
