"""Decides what follows a failed call: when to try again, or which error to raise."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from miao_client import errors
from miao_client.callers import is_renewed
from miao_client.deadline import Clock
from miao_client.failures import Failure
from miao_client.retry_budget import RetryBudget
from miao_client.settings import Settings
from miao_client.tls import Tls

FIRST_BACKOFF_SECONDS = 0.05
MOST_BACKOFF_SECONDS = 2.0

# A worker that lives writes what Redis has forgotten again within half a second, a front
# whose caller has submitted it within three.
RESTORE_SECONDS = 5.0
RESTORE_BACKOFF_SECONDS = 0.5

# What gRPC says where the other side closes a connection that has just been made.
_CLOSED_MARKS = ("socket closed", "connection reset", "broken pipe")


def spread(seconds: float, drawn: float) -> float:
    """When to return, told by a service: never earlier, and up to a quarter later.

    Many callers are told the same moment, such as the one at which a minute's limit has room
    again; without this they would come back together, and most be refused again.

    Args:
        seconds: From now, as told.
        drawn: A random number from 0 to 1.
    """
    return seconds + min(seconds / 4, MOST_BACKOFF_SECONDS) * drawn


class Recovery:
    """One call's or one stream's patience, which every sign of progress renews.

    A broken connection is tried again for `connect_timeout`, or for
    `reconnect_timeout` once the service has accepted the generation: it is
    stored then, and waits for its caller. A service that refuses for now is
    asked again only where `wait_when_busy` allows it, or after acceptance; so is
    one that has forgotten what it had accepted. Where the stream cannot tell it
    again, others may: that is awaited for `RESTORE_SECONDS`.

    Each further try takes a retry out of the client's budget, but for those that put no load
    on the service unasked: where nothing was sent for want of a connection, where the service
    has said when to return (`spread` makes that a little later), and the first one after a
    stream has brought something, since the cut of a connection with a thousand streams is one
    failure. With an empty budget a call fails at once. A generation that was accepted is not
    given up for that: its stream goes on at the slowest pace.

    A token that was rejected is fetched anew, once until something arrives.
    """

    def __init__(
        self,
        settings: Settings,
        not_found: type[errors.NotFoundError],
        clock: Clock = time.monotonic,
        draw: Callable[[], float] = random.random,
        budget: RetryBudget | None = None,
    ) -> None:
        self._settings = settings
        self._not_found = not_found
        self._budget = budget or RetryBudget(settings.retry_budget, settings.retry_ratio)
        self._clock = clock
        self._draw = draw
        self._tries = 0
        self._has_progressed = False  # since the last failure
        self._has_renewed = False
        self._broken_since: float | None = None
        self._busy_since: float | None = None
        self._forgotten_since: float | None = None

    def progressed(self) -> None:
        """Something arrived: whatever failed before no longer counts."""
        if self._has_progressed:  # as for nearly each token
            return
        self._has_progressed = True
        self._budget.succeeded()
        self._tries = 0
        self._has_renewed = False
        self._broken_since = self._busy_since = self._forgotten_since = None

    def next_try(
        self,
        failure: Failure,
        *,
        accepted: bool,
        forgotten: bool = False,
        restorable: bool = False,
    ) -> float:
        """Seconds to wait before the next try.

        Args:
            failure: How the last one ended.
            accepted: Whether the service has accepted the generation.
            forgotten: Whether it has forgotten it since, and is told again.
            restorable: Whether others may tell it again, where it has.

        Raises:
            MiaoError: There is none.
        """
        now = self._clock()
        self._tries += 1
        was_cut, self._has_progressed = self._has_progressed, False
        if failure.is_unauthenticated and self._may_renew():
            return 0.0
        if failure.is_final:
            raise failure.to_error(self._not_found)
        wait = self._next_wait(failure, now, accepted, forgotten, restorable)
        is_free = was_cut or failure.is_unsent or failure.retry_after is not None
        if is_free or self._budget.take():
            return wait
        if not accepted:
            raise self._unaffordable(failure)
        return max(wait, MOST_BACKOFF_SECONDS * (1 + self._draw()) / 2)

    def _may_renew(self) -> bool:
        if self._has_renewed or not is_renewed(self._settings.api_key):
            return False
        self._has_renewed = True
        return True

    def _next_wait(
        self, failure: Failure, now: float, accepted: bool, forgotten: bool, restorable: bool
    ) -> float:
        if restorable and failure.is_forgotten:
            return self._after_forgetting(failure, now)
        self._forgotten_since = None
        comes_back = (accepted and failure.is_busy) or (forgotten and failure.is_forgotten)
        if failure.is_broken_connection or comes_back:
            return self._after_break(failure, now, accepted)
        if failure.is_busy and self._settings.wait_when_busy > 0:
            return self._after_refusal(failure, now)
        raise failure.to_error(self._not_found)

    def _after_break(self, failure: Failure, now: float, accepted: bool) -> float:
        settings = self._settings
        self._broken_since = now if self._broken_since is None else self._broken_since
        patience = settings.reconnect_timeout if accepted else settings.connect_timeout
        told = failure.retry_after or 0.0
        wait = max(self._backoff(), told)
        left = patience - (now - self._broken_since)
        if wait > left:
            if failure.is_forgotten:
                raise failure.to_error(self._not_found)
            raise self._unanswered(f"in {patience:g} seconds", failure)
        return max(wait, min(left, spread(told, self._draw())))

    def _after_forgetting(self, failure: Failure, now: float) -> float:
        if self._forgotten_since is None:
            self._forgotten_since = now
        wait = min(self._backoff(), RESTORE_BACKOFF_SECONDS)
        patience = min(RESTORE_SECONDS, self._settings.reconnect_timeout)
        if now + wait - self._forgotten_since > patience:
            raise failure.to_error(self._not_found)
        return wait

    def _after_refusal(self, failure: Failure, now: float) -> float:
        self._busy_since = now if self._busy_since is None else self._busy_since
        wait = failure.retry_after or self._backoff()  # 0 would be asking without a pause
        left = self._settings.wait_when_busy - (now - self._busy_since)
        if wait > left:
            raise failure.to_error(self._not_found)
        return min(left, spread(wait, self._draw())) if failure.retry_after else wait

    def _unaffordable(self, failure: Failure) -> errors.MiaoError:
        if not failure.is_broken_connection:
            return failure.to_error(self._not_found)
        return self._unanswered("within the retry budget", failure)

    def _unanswered(self, how: str, failure: Failure) -> errors.UnavailableError:
        targets = ", ".join(self._settings.targets)
        said = f"No answer from {targets} {how}: {failure.message}"
        return errors.UnavailableError(said + _about_tls(failure, self._settings.tls))

    def _backoff(self) -> float:
        """Exponential with full jitter, so that many callers do not return at once."""
        most = FIRST_BACKOFF_SECONDS * 2.0 ** min(self._tries - 1, 16)
        return min(most, MOST_BACKOFF_SECONDS) * self._draw()


def _about_tls(failure: Failure, tls: Tls | None) -> str:
    """What may be wrong where a connection is closed before anything was said on it."""
    message = failure.message.lower()
    if not failure.is_unsent or not any(mark in message for mark in _CLOSED_MARKS):
        return ""
    if tls is None:
        return ". Does it want TLS (tls=True, or MIAO_TLS and MIAO_TLS_ROOTS)?"
    if tls.certificate is None:
        return ". Does it want a certificate of yours (MIAO_CLIENT_CERTIFICATE)?"
    return ". Has your certificate ended, or is it of roots that the service does not trust?"
