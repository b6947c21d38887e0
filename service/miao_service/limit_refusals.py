"""What a caller is told whose tenant has reached a limit."""

from __future__ import annotations

from miao_queue.limits import Limit, LimitReached, Limits
from miao_queue.records import Submission
from miao_service.errors import (
    FrontError,
    LimitReachedError,
    LimitUse,
    PriorityDeniedError,
    RequestTooLargeError,
    WaitTooLongError,
)


def limit_error(submission: Submission, limits: Limits, reached: LimitReached) -> FrontError:
    """The refusal: names the limit, the policy's value, and when to come back."""
    tenant, model = submission.tenant, submission.model
    retry_after_seconds = reached.retry_after_ms / 1000
    match reached.limit:
        case Limit.PRIORITIES:
            return PriorityDeniedError(tenant, model, submission.priority, limits.priorities)
        case Limit.WAIT:
            limit_ms = min(submission.timeout_ms, submission.queue_timeout_ms)
            return WaitTooLongError(model, reached.used, limit_ms, retry_after_seconds)
    value = getattr(limits, reached.limit.value)
    use = LimitUse(tenant, model, reached.limit.value, value, reached.used)
    if not reached.retry_after_ms:
        return RequestTooLargeError(use, "spec.max_tokens" if submission.job.max_tokens else "")
    requested = submission.max_tokens_in_all if reached.limit is Limit.TOKENS else 1
    return LimitReachedError(use, requested, retry_after_seconds)
