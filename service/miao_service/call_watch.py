"""What is noted of each call: that it came, how it ended, how long it took."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any, Self, TypeVar

from miao_queue.telemetry import traces
from miao_queue.telemetry.traces import NO_SPAN, Span
from miao_service import metrics
from miao_service.auth.identity import Identity
from miao_service.errors import FrontError

logger = logging.getLogger(__name__)

_AS_IT_SHOULD = frozenset({"OK", "CANCELLED"})  # for a caller may always leave

_Error = TypeVar("_Error", bound=FrontError)


class CallWatch:
    """Around one call."""

    def __init__(self, method: str, context: Any, *, is_stream: bool) -> None:
        self._method = method
        self._is_stream = is_stream
        self._began = time.perf_counter()
        self._code = ""
        self.identity: Identity | None = None  # once it is known
        self._serving = traces.active().serve(method, context)
        self._span: Span = NO_SPAN

    def __enter__(self) -> Self:
        if self._is_stream:
            metrics.STREAMS.inc()
        self._span = self._serving.__enter__()
        return self

    def refused(self, error: _Error) -> _Error:
        """Note what the call is refused with; returns it."""
        self._code = error.code.name
        metrics.REFUSALS.labels(error.reason).inc()
        said = {"method": self._method, "code": self._code, "reason": error.reason}
        logger.info("refused", extra=said | self._caller())
        return error

    def _caller(self) -> dict[str, str]:
        if self.identity is None:
            return {}
        return {"tenant": self.identity.tenant, "credential": self.identity.credential}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_stream:
            metrics.STREAMS.dec()
        code = self._code or ("OK" if error is None else "CANCELLED")
        self._span.note({"rpc.response.status_code": code})
        if code not in _AS_IT_SHOULD:
            self._span.fail(code)
        self._serving.__exit__(kind, error, traceback)
        metrics.CALLS.labels(self._method, code).inc()
        metrics.CALL_SECONDS.labels(self._method).observe(time.perf_counter() - self._began)
