"""Everything that this SDK raises.

MiaoError
├── InvalidRequestError       a field is wrong; `violations` names each and its limit
├── NotFoundError
│   ├── ModelNotFoundError        no worker has announced this model
│   └── GenerationNotFoundError   unknown, somebody else's, or expired
├── AlreadyExistsError        the request_id was used for another request
├── AuthenticationError       who is calling is not known
├── PermissionDeniedError     who is calling may not do this
├── BusyError                 a limit is reached; `retry_after` says when to return
├── UnavailableError          no service answers, or it cannot serve this now
├── DeadlineExceededError     the timeout is over
├── UnsupportedError          the service does not know this call
├── GenerationCancelledError  somebody else cancelled the generation, or the work on an answer
├── GenerationFailedError     it was accepted and then failed
├── DataLossError             tokens are missing; never passed over in silence
├── InternalError             the service failed, or broke its contract
└── ClientClosedError         the client or the stream was closed

Where an error ends a stream, `result` holds what had arrived until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from miao_client.results import GenerationResult


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: its path in the request, and what it should be."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class LimitViolation:
    """One limit that is reached: whose, and which."""

    subject: str
    description: str


class MiaoError(Exception):
    """Anything that went wrong.

    Attributes:
        code: The gRPC status code's name, such as "NOT_FOUND".
        message: One sentence.
        retry_after: Seconds after which a new try may succeed, where the service said so.
        result: What a stream had brought until it broke; None outside of streams.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.result: GenerationResult | None = None


class InvalidRequestError(MiaoError):
    """A field of the request is wrong.

    Attributes:
        violations: Every wrong field with its limit.
    """

    code = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, violations: Sequence[FieldViolation] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, rule: str) -> InvalidRequestError:
        """One field is wrong, and what it must be."""
        return cls(f"{field} {rule}.", violations=[FieldViolation(field, rule)])


class NotFoundError(MiaoError):
    """What the request names is not there."""

    code = "NOT_FOUND"


class ModelNotFoundError(NotFoundError):
    """No worker has announced this model; the message names those there are."""


class GenerationNotFoundError(NotFoundError):
    """The generation is unknown, belongs to another caller, or has expired."""


class AlreadyExistsError(MiaoError):
    """The request_id was used for a different request."""

    code = "ALREADY_EXISTS"


class AuthenticationError(MiaoError):
    """The service does not know who is calling."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(MiaoError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class BusyError(MiaoError):
    """A limit is reached; nothing was stored.

    Attributes:
        limits: The limits, where the service named them.
    """

    code = "RESOURCE_EXHAUSTED"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        limits: Sequence[LimitViolation] = (),
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limits = tuple(limits)


class UnavailableError(MiaoError):
    """No service answers, or the one that does cannot serve this now."""

    code = "UNAVAILABLE"


class DeadlineExceededError(MiaoError):
    """The timeout is over, while waiting in the queue or running."""

    code = "DEADLINE_EXCEEDED"


class UnsupportedError(MiaoError):
    """The service does not know this call; it may be older than this SDK."""

    code = "UNIMPLEMENTED"


class GenerationCancelledError(MiaoError):
    """Somebody other than this stream's `cancel()` ended the generation."""

    code = "CANCELLED"


class GenerationFailedError(MiaoError):
    """The generation was accepted and then failed.

    Attributes:
        reason: The kind, as a gRPC status code's name such as "INTERNAL".
    """

    code = "ABORTED"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DataLossError(MiaoError):
    """Tokens of the stream are missing, and the service cannot give them again."""

    code = "DATA_LOSS"


class InternalError(MiaoError):
    """The service failed, or sent what its contract does not allow."""

    code = "INTERNAL"


class ClientClosedError(MiaoError):
    """The client was used after `close()`, or a stream was closed while it was read."""

    code = "FAILED_PRECONDITION"
