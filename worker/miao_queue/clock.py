"""Redis's time as another process knows it without asking each time."""

from __future__ import annotations

import time
from typing import Any

from redis.asyncio import Redis

_STALE_SECONDS = 10.0


class RedisClock:
    """Measures now and then how far Redis's clock is from this process's own.

    What it says of Redis's time is never ahead: it counts from when the answer
    came, not from when Redis gave it.
    """

    def __init__(self, connection: Redis) -> None:
        self._redis: Any = connection
        self._offset_ms = 0.0
        self._measured_at = float("-inf")

    async def ms_at(self, moment: float) -> int:
        """Redis's time in milliseconds at a moment of `time.monotonic`."""
        if time.monotonic() - self._measured_at > _STALE_SECONDS:
            seconds, microseconds = await self._redis.time()
            self._measured_at = time.monotonic()
            self._offset_ms = (seconds - self._measured_at) * 1000 + microseconds / 1000
        return int(moment * 1000 + self._offset_ms)

    def forget(self) -> None:
        """Measure again next time: one of the clocks was set."""
        self._measured_at = float("-inf")
