"""Refusals at admission, by the fleet's state: come back later."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from miao_service.errors.base import FrontError


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


class DrainingError(FrontError):
    """The front is about to stop; another, or its successor, goes on."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"
    retry_after_seconds = 0.0

    def __init__(self) -> None:
        super().__init__("this front is about to stop; reconnect and follow the generation")
