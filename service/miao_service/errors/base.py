"""The base of all refusals, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "miao"

_MAX_MESSAGE_CHARS = 1000  # headers hold 8 KiB with most peers, and the status travels in them


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
        self.message = shorten(message, _MAX_MESSAGE_CHARS)

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


class CallerLeftError(FrontError):
    """A message could not be sent: nobody takes it any more, nor this error."""

    code = grpc.StatusCode.CANCELLED
    reason = "CALLER_LEFT"

    def __init__(self) -> None:
        super().__init__("the caller has left")


class UnexpectedError(FrontError):
    """A fault of ours."""

    def __init__(self, error_id: str) -> None:
        super().__init__(f"the front failed unexpectedly; its log says more under {error_id}")


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
