"""What is noted of each call: that it came, how it ended, how long it took."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, TypeVar

from miao_service import metrics
from miao_service.errors import FrontError

_Error = TypeVar("_Error", bound=FrontError)


class CallWatch:
    """Around one call."""

    def __init__(self, method: str, *, is_stream: bool) -> None:
        self._method = method
        self._is_stream = is_stream
        self._began = time.perf_counter()
        self._code = ""

    def __enter__(self) -> Self:
        if self._is_stream:
            metrics.STREAMS.inc()
        return self

    def refused(self, error: _Error) -> _Error:
        """Note what the call is refused with; returns it."""
        self._code = error.code.name
        metrics.REFUSALS.labels(error.reason).inc()
        return error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_stream:
            metrics.STREAMS.dec()
        code = self._code or ("OK" if error is None else "CANCELLED")
        metrics.CALLS.labels(self._method, code).inc()
        metrics.CALL_SECONDS.labels(self._method).observe(time.perf_counter() - self._began)
