"""Reads a failed call: gRPC's status and its google.rpc details become one typed error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from miao_client import errors

DETAILS_KEY = "grpc-status-details-bin"
DRAINING = "DRAINING"  # the ErrorInfo reason of a front that is about to stop
JOB_CANCELLED = "JOB_CANCELLED"  # of an encoder's job that somebody else ended
JOB_FAILED = "JOB_FAILED"  # of an encoder's job that was accepted and then failed
SHARD_UNAVAILABLE = "SHARD_UNAVAILABLE"  # of a request whose part of the queue does not answer
JOURNAL_LOST = "JOURNAL_LOST"  # of one whose queue has forgotten a generation in mid-stream

PUSHBACK_KEY = "grpc-retry-pushback-ms"  # gRFC A6: when to return; below 0: not at all

# What gRPC says of a call for which it had no connection, so that nothing was sent.
_UNSENT_MARKS = (
    "failed to connect",
    "connections to all backends failing",
    "errors resolving",  # of newer versions
    "dns resolution failed",  # of older ones
)

# What gRPC says of a stream that was cut, in statuses that can mean anything.
_CUT_MARKS = ("rst_stream", "goaway", "stream removed", "connection reset", "socket closed")

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call ended, when not well."""

    code: grpc.StatusCode
    message: str
    details: status_pb2.Status = field(default_factory=status_pb2.Status)
    pushback: str | None = None

    @classmethod
    def of(cls, error: grpc.RpcError) -> Failure:
        """Read what gRPC raised, synchronous or asynchronous."""
        code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
        if code is None:
            return cls(grpc.StatusCode.UNKNOWN, str(error))
        trailing: tuple[Any, ...] = tuple(error.trailing_metadata() or ())
        pushback = next((str(value) for key, value in trailing if key == PUSHBACK_KEY), None)
        return cls(code, error.details() or "", _details(trailing), pushback)

    @property
    def is_broken_connection(self) -> bool:
        """Whether the connection failed, rather than the service refusing.

        A cancelled call counts: the SDK's own cancellations never come here.
        """
        match self.code:
            case grpc.StatusCode.UNAVAILABLE:
                return not self.details.details or self._reason == DRAINING
            case grpc.StatusCode.CANCELLED:
                return True
            case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
                message = self.message.lower()
                return not self.details.details and any(mark in message for mark in _CUT_MARKS)
        return False

    @property
    def is_unsent(self) -> bool:
        """Whether there was no connection, so that no service has had any work by the call."""
        message = self.message.lower()
        return self.is_broken_connection and any(mark in message for mark in _UNSENT_MARKS)

    @property
    def is_final(self) -> bool:
        """Whether the service says that the call is not to be made again."""
        return self.pushback is not None and self._pushback_seconds is None

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the service does not take the key that was shown."""
        return self.code is grpc.StatusCode.UNAUTHENTICATED

    @property
    def is_busy(self) -> bool:
        """Whether the service refuses for now and may take the same call later."""
        return self.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)

    @property
    def may_go_elsewhere(self) -> bool:
        """Whether nothing was written, and another request id may be taken."""
        return self._reason == SHARD_UNAVAILABLE

    @property
    def is_forgotten(self) -> bool:
        """Whether the service no longer knows what the call names."""
        return self.code is grpc.StatusCode.NOT_FOUND or self._reason == JOURNAL_LOST

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the service asks the caller to return.

        From gRPC's own pushback, else from `google.rpc.RetryInfo`, which Miao's fronts send.
        """
        if self.pushback is not None:
            return self._pushback_seconds
        info = self._find(error_details_pb2.RetryInfo)
        if info is None:
            return None
        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)

    def to_error(
        self, not_found: type[errors.NotFoundError] = errors.NotFoundError
    ) -> errors.MiaoError:
        """The exception that a user of the SDK gets."""
        if self._reason == JOB_FAILED:
            return errors.GenerationFailedError(self._text, reason=self.code.name)
        if self._reason == JOB_CANCELLED:
            return errors.GenerationCancelledError(self._text)
        match self.code:
            case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
                return errors.InvalidRequestError(self._text, violations=self._fields())
            case grpc.StatusCode.FAILED_PRECONDITION:
                return errors.InvalidRequestError(self._text, violations=self._fields())
            case grpc.StatusCode.NOT_FOUND:
                return not_found(self._text)
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return errors.BusyError(
                    self._text, retry_after=self.retry_after, limits=self._limits()
                )
        kind = _PLAIN.get(self.code, errors.InternalError)
        return kind(self._text, retry_after=self.retry_after)

    @property
    def _pushback_seconds(self) -> float | None:
        text = self.pushback or ""
        return int(text) / 1000 if text.isascii() and text.isdigit() else None

    @property
    def _text(self) -> str:
        if self.code is grpc.StatusCode.DEADLINE_EXCEEDED and not self.details.details:
            return "The timeout is over."  # gRPC's own words tell how it noticed
        return self.message or f"The service answered {self.code.name} without a message."

    @property
    def _reason(self) -> str:
        info = self._find(error_details_pb2.ErrorInfo)
        return info.reason if info else ""

    def _fields(self) -> list[errors.FieldViolation]:
        found = self._find(error_details_pb2.BadRequest)
        return [
            errors.FieldViolation(violation.field, violation.description)
            for violation in (found.field_violations if found else ())
        ]

    def _limits(self) -> list[errors.LimitViolation]:
        found = self._find(error_details_pb2.QuotaFailure)
        return [
            errors.LimitViolation(violation.subject, violation.description)
            for violation in (found.violations if found else ())
        ]

    def _find(self, kind: type[_M]) -> _M | None:
        for packed in self.details.details:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                return message
        return None


_PLAIN: dict[grpc.StatusCode, type[errors.MiaoError]] = {
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.UNAUTHENTICATED: errors.AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnsupportedError,
    grpc.StatusCode.CANCELLED: errors.GenerationCancelledError,
    grpc.StatusCode.DATA_LOSS: errors.DataLossError,
}


def _details(metadata: Iterable[Any] | None) -> status_pb2.Status:
    for key, value in metadata or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break  # the code and the message still say what happened
    return status_pb2.Status()
