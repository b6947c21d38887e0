"""Refusals of requests: what cannot be answered as it was asked, now or later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from miao_service.errors.base import FrontError, Violation, shorten

_MAX_VIOLATIONS = 16


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
                field=shorten(violation.field, 100),
                description=shorten(violation.description, 200),
            )
        return [*super().details(), bad]


class ModelNotFoundError(FrontError):
    """No worker has announced the model."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = ", ".join(known) or "none yet"
        super().__init__(f"there is no model named {shorten(name, 64)!r}; there are: {names}")


class GenerationNotFoundError(FrontError):
    """There is no such generation for this caller."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "GENERATION_NOT_FOUND"

    def __init__(self, generation_id: str) -> None:
        super().__init__(
            f"there is no generation {shorten(generation_id, 64)!r}: it never was, or it ended "
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


def _sentences(violations: Sequence[Violation]) -> Iterable[str]:
    for violation in violations[:4]:
        yield (
            f"{violation.field}: {violation.description}"
            if violation.field
            else (violation.description)
        )
    if len(violations) > 4:
        yield f"and {len(violations) - 4} more"
