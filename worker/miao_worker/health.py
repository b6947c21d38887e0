"""What probes hear of a worker: whether it takes work, and whether it still turns."""

from __future__ import annotations

import time
from collections.abc import Callable

# A call to a Redis that does not answer may take four times the socket's timeout.
_STALLED_SECONDS = 120.0


class WorkerHealth:
    """Told by the worker's threads, asked by the probes' own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turns: dict[str, float] = {}
        self._takes_work: Callable[[], bool] = lambda: False

    def turn(self, loop: str) -> None:
        """A loop begins another round; from its first on it has to."""
        self._turns[loop] = self._clock()

    def serve(self, takes_work: Callable[[], bool]) -> None:
        """The model is loaded; from now on this says whether the worker takes work."""
        self._takes_work = takes_work

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded and work is taken."""
        return self._takes_work()

    @property
    def is_alive(self) -> bool:
        """Whether all loops turn that have begun to; the engine has a watchdog of its own."""
        now = self._clock()
        return all(now - turned < _STALLED_SECONDS for turned in list(self._turns.values()))
