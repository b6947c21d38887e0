"""Which inputs are computed together: those of like length, the oldest request's first.

A batch is padded to its longest input, and what is padded is computed in vain.
So inputs wait sorted by their length, and a batch is a window of that order:

    lengths   3  5  5  6  8 | 40 41 41 44 46 | 180 220
                              ^ the oldest request's longest input; its window grows
                                to the nearest neighbours while the batch has room

Every batch holds an input of the oldest request, so nothing waits for ever.
Knows neither tokens nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_LEAST_SHARE = 0.8  # of the longest, that an input must have to join a batch that is filled


class Waiting(NamedTuple):
    """An input that waits; they sort by length."""

    length: int
    order: int  # of the request's arrival
    key: str  # the request
    place: int  # of the input in it


class LengthBatches:
    """Inputs of many requests, taken out in batches.

    max_tokens: of a batch, padding included; one longer input goes alone.
    filled_tokens: below which a batch takes what pads more than `_LEAST_SHARE` allows,
        because a small batch costs hardly less than a filled one.
    """

    def __init__(self, max_tokens: int, filled_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._filled_tokens = filled_tokens
        self._waiting: list[Waiting] = []
        self._counts: dict[str, int] = {}  # of each request's inputs; the oldest first
        self._num_added = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: str, lengths: Sequence[int]) -> None:
        """Let a request's inputs wait; a key waits once."""
        self._num_added += 1
        order = self._num_added
        self._waiting.extend(Waiting(n, order, key, i) for i, n in enumerate(lengths))
        self._waiting.sort()
        self._counts[key] = len(lengths)

    def remove(self, key: str) -> None:
        """Forget what still waits of a request."""
        if self._counts.pop(key, None):
            self._waiting = [entry for entry in self._waiting if entry.key != key]

    def take(self) -> list[Waiting]:
        """The next batch, the shortest first; empty where nothing waits."""
        if not self._waiting:
            return []
        low = high = self._anchor()
        while (grown := self._grown(low, high)) is not None:
            low, high = grown
        batch = self._waiting[low : high + 1]
        del self._waiting[low : high + 1]
        for entry in batch:
            self._counts[entry.key] -= 1
            if not self._counts[entry.key]:
                del self._counts[entry.key]
        return batch

    def _anchor(self) -> int:
        """Where the longest input of the oldest request is."""
        oldest = next(iter(self._counts))
        return max(i for i, entry in enumerate(self._waiting) if entry.key == oldest)

    def _grown(self, low: int, high: int) -> tuple[int, int] | None:
        """The window with its nearest neighbour that may join; None where none may."""
        sides = []
        if low > 0:
            gap = self._waiting[low].length - self._waiting[low - 1].length
            sides.append((gap, low - 1, high))
        if high + 1 < len(self._waiting):
            gap = self._waiting[high + 1].length - self._waiting[high].length
            sides.append((gap, low, high + 1))
        for _, first, last in sorted(sides):
            if self._fits(first, last):
                return first, last
        return None

    def _fits(self, low: int, high: int) -> bool:
        longest = self._waiting[high].length
        padded = longest * (high - low + 1)
        is_alike = self._waiting[low].length >= _LEAST_SHARE * longest
        return padded <= self._max_tokens and (is_alike or padded <= self._filled_tokens)
