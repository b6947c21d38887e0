"""What a call can be refused with.

FrontError
├── NoCredentialsError       UNAUTHENTICATED     the caller shows nothing
├── BadCredentialsError      UNAUTHENTICATED     what it shows is not valid; never why
│   └── ExpiredCredentialsError  UNAUTHENTICATED they were valid, and are no longer
├── IssuerUnavailableError   UNAVAILABLE         the keys that tokens are signed with are not there
├── MissingScopeError        PERMISSION_DENIED   the credentials are not for this
├── InvalidRequestError      INVALID_ARGUMENT    a field, and its limit
├── ModelNotFoundError       NOT_FOUND           with the models there are
├── GenerationNotFoundError  NOT_FOUND           unknown, another tenant's, or expired
├── RequestConflictError     ALREADY_EXISTS      the request id names another content
├── NoWorkerError            UNAVAILABLE         come back later
├── ModelChangedError        UNAVAILABLE         the model has just been replaced; call again
├── BacklogFullError         RESOURCE_EXHAUSTED  come back later
├── LimitReachedError        RESOURCE_EXHAUSTED  the tenant has used up one of its limits
├── WaitTooLongError         RESOURCE_EXHAUSTED  it would wait for longer than it may
├── RequestTooLargeError     INVALID_ARGUMENT    more tokens than the tenant may ask for at once
├── PriorityDeniedError      PERMISSION_DENIED   the tenant may not have this priority
├── QueueFullError           RESOURCE_EXHAUSTED  Redis has no memory left
├── QueueUnavailableError    UNAVAILABLE         Redis does not answer
├── ShardUnavailableError    UNAVAILABLE         one of several Redis does not answer
├── OutdatedFrontError       UNAVAILABLE         this front does not know of a change of the Redis
├── UnsafeAcceptanceError    UNAVAILABLE         stored, but not as safely as promised
├── DrainingError            UNAVAILABLE         this front is about to stop
├── JournalLostError         DATA_LOSS           the journal holds less than the caller has seen
│   └── GenerationLostError      DATA_LOSS       Redis no longer knows the generation
├── UnreadableJournalError   DATA_LOSS           what is stored is encrypted otherwise, or forged
├── OutputChangedError       DATA_LOSS           made again, it says something else than was seen
├── JobCancelledError        ABORTED             somebody ended the work on an answer
├── JobOverdueError          DEADLINE_EXCEEDED   an answer's time was over
├── JobFailedError           as it failed        the work on an answer failed
├── CallerLeftError          CANCELLED           nobody reads this
├── EndedEarlyError          by its end          what was to be answered has ended otherwise
└── UnexpectedError          INTERNAL            a fault of ours; the log has its id

Each file holds those of one concern: access, requests, admission, limits, queue, journal.
A message is for the caller and never holds prompt or output text.
"""

from __future__ import annotations

from miao_service.errors.access import (
    BadCredentialsError,
    ExpiredCredentialsError,
    IssuerUnavailableError,
    MissingScopeError,
    NoCredentialsError,
)
from miao_service.errors.admission import (
    BacklogFullError,
    DrainingError,
    ModelChangedError,
    NoWorkerError,
    WaitTooLongError,
)
from miao_service.errors.base import (
    DOMAIN,
    CallerLeftError,
    FrontError,
    UnexpectedError,
    Violation,
)
from miao_service.errors.journal import (
    EndedEarlyError,
    GenerationLostError,
    JobCancelledError,
    JobFailedError,
    JobOverdueError,
    JournalLostError,
    OutputChangedError,
    UnreadableJournalError,
)
from miao_service.errors.limits import (
    LimitReachedError,
    LimitUse,
    PriorityDeniedError,
    RequestTooLargeError,
)
from miao_service.errors.queue import (
    OutdatedFrontError,
    QueueFullError,
    QueueUnavailableError,
    ShardUnavailableError,
    UnsafeAcceptanceError,
    from_redis,
)
from miao_service.errors.requests import (
    GenerationNotFoundError,
    InvalidRequestError,
    ModelNotFoundError,
    RequestConflictError,
)

__all__ = [
    "DOMAIN",
    "BacklogFullError",
    "BadCredentialsError",
    "CallerLeftError",
    "DrainingError",
    "EndedEarlyError",
    "ExpiredCredentialsError",
    "FrontError",
    "GenerationLostError",
    "GenerationNotFoundError",
    "InvalidRequestError",
    "IssuerUnavailableError",
    "JobCancelledError",
    "JobFailedError",
    "JobOverdueError",
    "JournalLostError",
    "LimitReachedError",
    "LimitUse",
    "MissingScopeError",
    "ModelChangedError",
    "ModelNotFoundError",
    "NoCredentialsError",
    "NoWorkerError",
    "OutdatedFrontError",
    "OutputChangedError",
    "PriorityDeniedError",
    "QueueFullError",
    "QueueUnavailableError",
    "RequestConflictError",
    "RequestTooLargeError",
    "ShardUnavailableError",
    "UnexpectedError",
    "UnreadableJournalError",
    "UnsafeAcceptanceError",
    "Violation",
    "WaitTooLongError",
    "from_redis",
]
