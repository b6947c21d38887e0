"""The time that a call has left."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Deadline:
    """A moment to be done by; without `seconds` there is none."""

    def __init__(self, seconds: float | None, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    def remaining(self) -> float | None:
        """Seconds that are left, at least 0; None without a deadline."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    def cut(self, wait: float) -> float:
        """The wait, shortened to what is left."""
        remaining = self.remaining()
        return wait if remaining is None else min(wait, remaining)
