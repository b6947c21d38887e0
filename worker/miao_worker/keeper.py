"""What a worker does besides generating: leases, presence, and other workers' ends.

One thread runs `run`. A worker that is stopped and woken again learns here, or
at its next write, that its claims are gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from miao_queue.cards import Presence
from miao_queue.claims import ClaimStore, ReapedClaim, WriteCode
from miao_worker.clock import RedisClock
from miao_worker.generation_runner import GenerationRunner
from miao_worker.health import WorkerHealth
from miao_worker.settings import WorkerSettings

_log = logging.getLogger(__name__)

_REAP_INTERVAL_MS = 400  # of the fleet, not of each worker


class Keeper:
    """Renews what this worker holds and takes back what others have lost.

    Reaped claims are left in `reaped` for RQ's bookkeeping.
    """

    def __init__(
        self,
        claims: ClaimStore,
        clock: RedisClock,
        runner: GenerationRunner,
        presence: Presence,
        settings: WorkerSettings,
        on_tick: Callable[[], None] = lambda: None,
        health: WorkerHealth | None = None,
        name: str = "keeper",
    ) -> None:
        """`on_tick` is called each time, once the claims are renewed; `name` is for `health`."""
        self._name = name
        self.reaped: list[ReapedClaim] = []
        self._claims = claims
        self._clock = clock
        self._runner = runner
        self._presence = presence
        self._settings = settings
        self._on_tick = on_tick
        self._health = health or WorkerHealth()
        self._accepting = True
        self._redis_run = ""  # which start of Redis was seen last
        self._last_tick = time.monotonic()  # presence was announced just now
        self._may_reap_at = 0.0  # monotonic, as the one before
        self._stopping = threading.Event()

    def run(self) -> None:
        """Tick until stopped."""
        self._last_tick = time.monotonic()
        while not self._stopping.wait(self._settings.lease_seconds / 6):
            self._health.turn(self._name)
            try:
                self._tick()
            except RedisError as error:
                _log.warning("Redis does not answer (%s)", type(error).__name__)
                self._wait_to_reap()

    @property
    def is_known(self) -> bool:
        """Whether fronts count this worker: it takes work, and Redis has heard of it lately."""
        since = time.monotonic() - self._last_tick
        return self._accepting and since < 2 * self._settings.lease_seconds

    def withdraw(self) -> None:
        """Take no more: fronts no longer count this worker."""
        self._accepting = False
        self._presence.withdraw()

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()

    def _wait_to_reap(self) -> None:
        """Let those who live renew their leases first.

        This worker or Redis stood still, so the leases of others may have run out
        for no fault of theirs.
        """
        self._may_reap_at = time.monotonic() + self._settings.lease_seconds

    def _tick(self) -> None:
        self._clock.set(self._claims.now_ms())
        self._renew()
        self._on_tick()
        self._check_redis()
        pace = self._runner.pace
        pace.tick(is_full=self._runner.is_full)
        if self._accepting:
            self._presence.renew(2 * self._settings.lease_ms, pace.words())
        now = time.monotonic()
        if now - self._last_tick > self._settings.lease_seconds / 2:
            self._wait_to_reap()
        self._last_tick = now
        if now >= self._may_reap_at:
            self._reap()

    def _renew(self) -> None:
        claims = self._runner.claims_held()
        for claim, code in zip(claims, self._claims.renew(claims), strict=True):
            if code is WriteCode.FENCED:
                self._runner.drop(claim.owner)
            elif code is WriteCode.UNKNOWN:
                self._runner.restore(claim.owner)
            elif code is WriteCode.CANCEL:
                self._runner.cancel(claim.record.generation_id)

    def _check_redis(self) -> None:
        """See whether Redis was started anew, and may have forgotten what had ended."""
        run = self._claims.redis_run()
        if self._redis_run in ("", run):
            self._runner.forget_endings()
        else:
            _log.warning("Redis was started anew")
            self._runner.restore_endings()
        self._redis_run = run

    def _reap(self) -> None:
        for claim in self._claims.reap(_REAP_INTERVAL_MS):
            lost = {"worker": claim.worker, "generation": claim.generation_id}
            _log.warning("a worker has lost a generation; it waits for another", extra=lost)
            self.reaped.append(claim)
