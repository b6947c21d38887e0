"""Every status and its details become one typed error; none is gRPC's."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb
from google.rpc import status_pb2

from miao_client import errors
from miao_client.failures import Failure

Code = grpc.StatusCode


def failure(code: grpc.StatusCode, message: str = "why", *details: Message) -> Failure:
    status = status_pb2.Status()
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    return Failure(code, message, status)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, errors.InvalidRequestError),
        (Code.OUT_OF_RANGE, errors.InvalidRequestError),
        (Code.FAILED_PRECONDITION, errors.InvalidRequestError),
        (Code.NOT_FOUND, errors.NotFoundError),
        (Code.ALREADY_EXISTS, errors.AlreadyExistsError),
        (Code.UNAUTHENTICATED, errors.AuthenticationError),
        (Code.PERMISSION_DENIED, errors.PermissionDeniedError),
        (Code.RESOURCE_EXHAUSTED, errors.BusyError),
        (Code.UNAVAILABLE, errors.UnavailableError),
        (Code.DEADLINE_EXCEEDED, errors.DeadlineExceededError),
        (Code.UNIMPLEMENTED, errors.UnsupportedError),
        (Code.CANCELLED, errors.GenerationCancelledError),
        (Code.DATA_LOSS, errors.DataLossError),
        (Code.INTERNAL, errors.InternalError),
        (Code.UNKNOWN, errors.InternalError),
        (Code.ABORTED, errors.InternalError),
    ],
)
def test_each_status_has_its_error(code: grpc.StatusCode, kind: type[errors.MiaoError]) -> None:
    error = failure(code).to_error()
    assert type(error) is kind
    expected = "The timeout is over." if code is Code.DEADLINE_EXCEEDED else "why"
    assert error.message == str(error) == expected


def test_a_status_without_a_message_still_says_something() -> None:
    assert "INTERNAL" in failure(Code.INTERNAL, "").to_error().message


def test_not_found_says_what() -> None:
    error = failure(Code.NOT_FOUND).to_error(errors.ModelNotFoundError)
    assert type(error) is errors.ModelNotFoundError


def test_wrong_fields_are_named() -> None:
    detail = details_pb.BadRequest()
    detail.field_violations.add(field="spec.max_tokens", description="must be at least 1")
    error = failure(Code.INVALID_ARGUMENT, "bad", detail).to_error()
    assert isinstance(error, errors.InvalidRequestError)
    assert error.violations == (errors.FieldViolation("spec.max_tokens", "must be at least 1"),)


def test_a_limit_is_named_with_the_time_to_return() -> None:
    retry = details_pb.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    quota = details_pb.QuotaFailure()
    quota.violations.add(subject="model:m", description="backlog of 100 is full")
    error = failure(Code.RESOURCE_EXHAUSTED, "busy", quota, retry).to_error()
    assert isinstance(error, errors.BusyError)
    assert error.retry_after == 1.5
    assert error.limits == (errors.LimitViolation("model:m", "backlog of 100 is full"),)


def test_unavailable_keeps_the_time_to_return() -> None:
    retry = details_pb.RetryInfo(retry_delay=Duration(seconds=2))
    assert failure(Code.UNAVAILABLE, "no worker", retry).to_error().retry_after == 2


@pytest.mark.parametrize(
    ("code", "message", "broken"),
    [
        (Code.UNAVAILABLE, "Socket closed", True),
        (Code.CANCELLED, "", True),
        (Code.INTERNAL, "Received RST_STREAM with error code 2", True),
        (Code.UNKNOWN, "Stream removed", True),
        (Code.INTERNAL, "GOAWAY received", True),
        (Code.INTERNAL, "a bug", False),
        (Code.UNKNOWN, "", False),
        (Code.DEADLINE_EXCEEDED, "", False),
        (Code.RESOURCE_EXHAUSTED, "", False),
    ],
)
def test_a_broken_connection_is_told_from_a_refusal(
    code: grpc.StatusCode, message: str, broken: bool
) -> None:
    assert failure(code, message).is_broken_connection is broken


def test_unavailable_with_details_is_a_refusal() -> None:
    assert not failure(Code.UNAVAILABLE, "", details_pb.RetryInfo()).is_broken_connection
    reason = details_pb.ErrorInfo(reason="NO_WORKER")
    assert not failure(Code.UNAVAILABLE, "", reason).is_broken_connection


def test_a_draining_front_is_left_like_a_broken_one() -> None:
    reason = details_pb.ErrorInfo(reason="DRAINING")
    assert failure(Code.UNAVAILABLE, "", details_pb.RetryInfo(), reason).is_broken_connection


class FakeRpcError(grpc.RpcError, grpc.Call):
    """What the synchronous API raises."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def code(self) -> grpc.StatusCode:
        return Code.NOT_FOUND

    def details(self) -> str:
        return "gone"

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    initial_metadata = time_remaining = is_active = cancel = add_callback = None


def test_details_are_read_from_the_trailing_metadata() -> None:
    status = failure(Code.NOT_FOUND, "", details_pb.ErrorInfo(reason="DRAINING")).details
    read = Failure.of(
        FakeRpcError(("x", "y"), ("grpc-status-details-bin", status.SerializeToString()))
    )
    assert (read.code, read.message) == (Code.NOT_FOUND, "gone")
    assert read.details == status


def test_details_that_cannot_be_read_do_no_harm() -> None:
    read = Failure.of(FakeRpcError(("grpc-status-details-bin", b"\xff\xff")))
    assert read.code is Code.NOT_FOUND
    assert not read.details.details


def test_an_error_without_a_status_is_unknown() -> None:
    assert Failure.of(grpc.RpcError("odd")) == Failure(Code.UNKNOWN, "odd")
