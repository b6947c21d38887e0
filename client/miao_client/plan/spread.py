"""How many values are spread, in little memory however many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEPS = 400  # buckets for each factor of e: neighbours differ by 0.25 %
_LEAST = 1e-6  # seconds; what is less counts as 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What is said of a distribution, in seconds."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


class Spread:
    """A histogram with buckets of equal ratio; a percentile is right to 0.25 %.

    A run has as many gaps between tokens as tokens, so they are not kept one by one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.max = 0.0
        self._buckets: dict[int, int] = {}
        self._zeros = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count a value so many times."""
        self.count += count
        self.total += seconds * count
        if seconds > self.max:
            self.max = seconds
        if seconds < _LEAST:
            self._zeros += count
            return
        bucket = int(math.log(seconds / _LEAST) * _STEPS)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    @property
    def mean(self) -> float:
        """0 where nothing was counted."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The value below which so many percent lie; 0 where nothing was counted."""
        wanted = percent / 100 * self.count
        passed = self._zeros
        if passed >= wanted:
            return 0.0
        for bucket in sorted(self._buckets):
            passed += self._buckets[bucket]
            if passed >= wanted:
                return min(self.max, _LEAST * math.exp((bucket + 0.5) / _STEPS))
        return self.max

    def figures(self) -> Figures | None:
        """The usual ones; None where nothing was counted."""
        if not self.count:
            return None
        p50, p90, p99 = map(self.percentile, (50, 90, 99))
        return Figures(self.mean, p50, p90, p99, self.max)
