"""Whose turn it is to claim, where several Redis fill one batch.

Where there is room for all that have work, all claim. Where there is not, the one goes first that
has claimed the longest ago. Who does not come for its turn, since its Redis is silent or has
nothing, is passed over: nobody waits for the sick.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_WAIT_SECONDS = 0.05  # between two questions of who is held up
_FRESH_SECONDS = 5 * _WAIT_SECONDS


@dataclass(slots=True)
class _Claimer:
    claimed_at: float = float("-inf")
    wanted_at: float = float("-inf")  # when it asked and was held up


class ClaimTurns:
    """Asked by a thread of each Redis."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._claimers: dict[Hashable, _Claimer] = {}

    def may_claim(self, name: Hashable, num_free: int) -> bool:
        """Whether it is this one's turn, with so many free rows.

        Where there are none, one may still claim, for a tenant that has fewer than another.
        """
        with self._changed:
            now = self._clock()
            me = self._claimers.setdefault(name, _Claimer())
            num_ahead = sum(
                now - other.wanted_at < _FRESH_SECONDS and other.claimed_at < me.claimed_at
                for other in self._claimers.values()
                if other is not me
            )
            may = max(1, num_free) > num_ahead
            me.wanted_at = float("-inf") if may else now
            return may

    def held_up(self, name: Hashable) -> None:
        """There was no room for this one."""
        with self._changed:
            self._claimers.setdefault(name, _Claimer()).wanted_at = self._clock()

    def claimed(self, name: Hashable) -> None:
        """It has got something."""
        with self._changed:
            self._claimers.setdefault(name, _Claimer()).claimed_at = self._clock()

    def note_room(self) -> None:
        """Something has ended."""
        with self._changed:
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until something ends, or for a moment."""
        with self._changed:
            self._changed.wait(_WAIT_SECONDS)
