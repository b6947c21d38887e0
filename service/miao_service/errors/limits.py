"""Refusals by a tenant's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from miao_service.errors.base import FrontError, Violation
from miao_service.errors.requests import InvalidRequestError


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
