"""How many failed calls a client may try again: so many at once, then a tenth of all calls."""

from __future__ import annotations

import threading

DEFAULT_RETRIES = 100.0
DEFAULT_RATIO = 0.1


class RetryBudget:
    """A bucket of retries that all calls of a client share.

    A retry takes one out, a call that succeeds puts `ratio` of one back. So a short failure
    is passed over, while a service that fails for long gets at most a tenth more calls than
    its callers make. After the retry throttling of gRPC (gRFC A6), which takes out for each
    failure instead, so that a long failure keeps retries away for long afterwards.

    Args:
        retries: How many it holds, and begins with; 0 allows none, ever.
        ratio: What a call that succeeds puts back.
    """

    def __init__(self, retries: float = DEFAULT_RETRIES, ratio: float = DEFAULT_RATIO) -> None:
        self._most = self._left = retries
        self._ratio = ratio
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a retry out; False where none is left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def succeeded(self) -> None:
        """A call has brought something."""
        if self._left < self._most:  # a bucket that is full, as nearly always, needs no lock
            with self._lock:
                self._left = min(self._most, self._left + self._ratio)
