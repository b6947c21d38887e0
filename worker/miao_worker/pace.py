"""How fast a worker is when it has all that it can do, for fronts that foresee a wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW_SECONDS = 2.0  # with a full batch from its beginning to its end
_REMEMBER_SECONDS = 120.0
_ENDS = 200  # generations whose length is remembered
_FEWEST_ENDS = 5


class Pace:
    """The most tokens a second, prompts included, and the share of the most output that is said.

    Only what was seen in a full batch counts: a worker that could do more says nothing.
    Ticks come from one thread, the rest from another.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._num_tokens = 0  # served since the start
        self._window: tuple[float, int] | None = None  # when it began, and the tokens until then
        self._seen: deque[tuple[float, float]] = deque()  # when, and tokens a second
        self._shares: deque[float] = deque(maxlen=_ENDS)

    def note_tokens(self, count: int) -> None:
        """So many were computed, of a prompt or said."""
        self._num_tokens += count

    def note_end(self, num_output_tokens: int, most: int) -> None:
        """One has ended by itself, which might have said so many."""
        if most:
            self._shares.append(min(1.0, num_output_tokens / most))

    def tick(self, *, is_full: bool) -> None:
        """Look at the batch, some times a second."""
        now, count = self._clock(), self._num_tokens
        while self._seen and now - self._seen[0][0] > _REMEMBER_SECONDS:
            self._seen.popleft()
        if not is_full:
            self._window = None
        elif self._window is None:
            self._window = now, count
        elif now - self._window[0] >= _WINDOW_SECONDS:
            began, before = self._window
            if count > before:
                self._seen.append((now, (count - before) / (now - began)))
            self._window = now, count

    def words(self) -> tuple[float, float] | None:
        """Tokens a second and the share; None where too little was seen."""
        shares = list(self._shares)
        if not self._seen or len(shares) < _FEWEST_ENDS:
            return None
        return max(rate for _, rate in list(self._seen)), sum(shares) / len(shares)
