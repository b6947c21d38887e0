"""What a tenant may ask of a model, and what it is told where that is too much."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from miao_queue import keys

WAIT_MARGIN = 1.5  # how many times as long as it may the wait must be to be refused


class Limit(StrEnum):
    """The limits, by the names that they have in policies."""

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    CONCURRENT = "concurrent_generations"
    BACKLOG = "backlog"
    REQUEST_TOKENS = "request_tokens"
    PRIORITIES = "priorities"
    WAIT = "wait"  # no policy's: the request's own time for waiting


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tenant may ask of one model. None: as much as it likes.

    requests_per_minute: accepted in any 60 seconds.
    tokens_per_minute: of those, the prompts and the most that each may say; when one ends,
        what it has really said.
    concurrent_generations: accepted and not ended.
    backlog: accepted and not begun.
    request_tokens: prompt and the most that is said to it, all answers together.
    priorities: those that its requests may have.
    weight: its share of what is served, relative to the others'.
    share_prefix_cache: whether what workers have computed of its prompts may save time
        for other tenants, and theirs for it.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_generations: int | None = None
    backlog: int | None = None
    request_tokens: int | None = None
    priorities: tuple[str, ...] = keys.PRIORITIES
    weight: float = 1.0
    share_prefix_cache: bool = True


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Why a submission was refused: what of a limit is used, and when to come back.

    Waiting does not help where there is no time.
    """

    limit: Limit
    used: int
    retry_after_ms: int
