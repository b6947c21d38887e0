"""Redis's time, kept without asking for it each time."""

from __future__ import annotations

import time


class RedisClock:
    """Milliseconds of Redis's clock, from this process's monotonic one."""

    def __init__(self, now_ms: int) -> None:
        self._offset_ms = 0.0
        self.set(now_ms)

    def set(self, now_ms: int) -> None:
        """Take over what Redis has just said."""
        self._offset_ms = now_ms - time.monotonic() * 1000

    def now_ms(self) -> int:
        return int(time.monotonic() * 1000 + self._offset_ms)
