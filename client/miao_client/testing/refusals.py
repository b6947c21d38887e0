"""How a scripted service refuses: a gRPC status with the details that Miao's own carry."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2


class Refuse(Exception):  # noqa: N818  # reads as what the service does
    """Ends a call with a status and google.rpc details.

    Args:
        code: The status.
        message: One sentence.
        *details: Messages of `google.rpc`, such as a RetryInfo.
        pushback_ms: gRPC's own word for when to return; below 0 for not at all.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str = "",
        *details: Message,
        pushback_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details
        self.pushback_ms = pushback_ms

    def end(self, context: grpc.ServicerContext) -> None:
        """End the call so; never returns."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = Packed()
            packed.Pack(detail)
            status.details.append(packed)
        trailers: list[tuple[str, str | bytes]] = []
        if self.details:
            trailers.append(("grpc-status-details-bin", status.SerializeToString()))
        if self.pushback_ms is not None:
            trailers.append(("grpc-retry-pushback-ms", str(self.pushback_ms)))
        context.set_trailing_metadata(tuple(trailers))
        context.abort(self.code, self.message)


def busy(
    message: str = "the service is busy",
    *,
    retry_after: float | None = 1.0,
    limits: Mapping[str, str] | None = None,
) -> Refuse:
    """A limit is reached: `BusyError`. `limits` names each by its subject."""
    quota = error_details_pb2.QuotaFailure()
    for subject, description in (limits or {}).items():
        quota.violations.add(subject=subject, description=description)
    details: list[Message] = [quota] if limits else []
    return Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, message, *details, *_retry(retry_after))


def invalid(field: str, description: str) -> Refuse:
    """A field is wrong: `InvalidRequestError`."""
    wrong = error_details_pb2.BadRequest()
    wrong.field_violations.add(field=field, description=description)
    return Refuse(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {description}", wrong)


def unavailable(
    message: str = "no worker serves the model at the moment", *, retry_after: float | None = 1.0
) -> Refuse:
    """The service is there and cannot serve this now: `UnavailableError`."""
    info = error_details_pb2.ErrorInfo(reason="NO_WORKER", domain="miao")
    return Refuse(grpc.StatusCode.UNAVAILABLE, message, info, *_retry(retry_after))


def not_found(message: str = "there is no such model") -> Refuse:
    """`ModelNotFoundError`, or `GenerationNotFoundError` of calls that name a generation."""
    return Refuse(grpc.StatusCode.NOT_FOUND, message)


def unauthenticated(message: str = "the credentials are not valid") -> Refuse:
    """`AuthenticationError`."""
    return Refuse(grpc.StatusCode.UNAUTHENTICATED, message)


def broken() -> Refuse:
    """The connection breaks, as far as the SDK can see; it tries again by itself."""
    return Refuse(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def _retry(seconds: float | None) -> list[Message]:
    if seconds is None:
        return []
    delay = Duration()
    delay.FromNanoseconds(round(seconds * 1e9))
    return [error_details_pb2.RetryInfo(retry_delay=delay)]
