"""Refusals of callers: who they are, and what they may do."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from miao_service.errors.base import DOMAIN, FrontError


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
        super().__init__(f"the credentials lack the scope {str(scope)!r}, which this call needs")
        self._scope = scope

    def details(self) -> list[Message]:
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)
        info.metadata["scope"] = self._scope
        return [info]
