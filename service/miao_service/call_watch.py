"""What is noted of each call: that it came, how it ended, how long it took."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from miao_queue.audit import AuditRecord, AuditTrail
from miao_queue.telemetry import traces
from miao_queue.telemetry.traces import NO_SPAN, Span
from miao_service import metrics
from miao_service.auth.identity import Identity
from miao_service.errors import FrontError

NOBODY = Identity("", frozenset())

# What is noted also where all goes well: what changes something, or reads what was said.
_AUDITED = frozenset(
    {
        *("Generate", "CreateGeneration", "CancelGeneration", "Score"),
        *("Embed", "Classify", "Rerank", "Explain"),
        *("FollowGeneration", "GetGeneration", "ListGenerations"),
        *("ListUsageRecords", "ListAuditRecords"),
    }
)

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from miao_service.handlers import Call

_AS_IT_SHOULD = frozenset({"OK", "CANCELLED"})  # for a caller may always leave

_Error = TypeVar("_Error", bound=FrontError)


class CallWatch:
    """Around one call."""

    def __init__(self, method: str, context: Any, audit: AuditTrail, *, is_stream: bool) -> None:
        self._method = method
        self._is_stream = is_stream
        self._began = time.perf_counter()
        self._code = ""
        self._reason = ""  # of a refusal
        self._audit = audit
        self.call: Call | None = None  # once it is known whose it is
        self._serving = traces.active().serve(method, context)
        self._span: Span = NO_SPAN

    def __enter__(self) -> Self:
        if self._is_stream:
            metrics.STREAMS.inc()
        self._span = self._serving.__enter__()
        return self

    def refused(self, error: _Error) -> _Error:
        """Note what the call is refused with; returns it."""
        self._code, self._reason = error.code.name, error.reason
        metrics.REFUSALS.labels(error.reason).inc()
        said = {"method": self._method, "code": self._code, "reason": error.reason}
        logger.info("refused", extra=said | self._caller())
        return error

    def _caller(self) -> dict[str, str]:
        if self.call is None:
            return {}
        identity = self.call.identity
        return {"tenant": identity.tenant, "credential": identity.credential}

    def _note_for_audit(self, outcome: str) -> None:
        target = "" if self.call is None else self.call.generation_id
        identity = NOBODY if self.call is None else self.call.identity
        self._audit.note(
            AuditRecord(
                time_ms=int(time.time() * 1000),
                tenant=identity.tenant,
                credential=identity.credential,
                action=self._method,
                outcome=outcome,
                target=target,
            )
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_stream:
            metrics.STREAMS.dec()
        is_well = error is None or (self.call is not None and self.call.is_at_end)
        code = self._code or ("OK" if is_well else "CANCELLED")
        if self._reason or self._method in _AUDITED:
            self._note_for_audit(self._reason or code)
        self._span.note({"rpc.response.status_code": code})
        if code not in _AS_IT_SHOULD:
            self._span.fail(code)
        self._serving.__exit__(kind, error, traceback)
        metrics.CALLS.labels(self._method, code).inc()
        metrics.CALL_SECONDS.labels(self._method).observe(time.perf_counter() - self._began)
