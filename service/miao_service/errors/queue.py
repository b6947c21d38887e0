"""Refusals by Redis: full, away, or not as safe as was promised."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from redis import exceptions as redis_errors

from miao_service.errors.base import FrontError


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


def from_redis(error: Exception) -> FrontError:
    """What an error of the Redis client means for a caller."""
    # An error within a script is its own from Redis 7 on, and only quoted before.
    if isinstance(error, redis_errors.OutOfMemoryError) or "OOM command not" in str(error):
        return QueueFullError()
    return QueueUnavailableError()


class ShardUnavailableError(FrontError):
    """The Redis on which this one belongs does not answer; nothing was written."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SHARD_UNAVAILABLE"
    retry_after_seconds = 1.0

    def __init__(self) -> None:
        super().__init__(
            "the part of the queue that this request_id belongs to does not answer at the moment; "
            "under another request_id it may"
        )


class OutdatedFrontError(FrontError):
    """Another front has put it on a Redis where this one would not, during a change."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"  # for the SDK, which tries another front
    retry_after_seconds = 0.2

    def __init__(self) -> None:
        super().__init__("this front knows an older list of Redis than others do; try another")
