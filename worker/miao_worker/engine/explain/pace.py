"""How much of an engine's time explanations may take. Knows no torch.

While others run, a slice of explaining ends with the pass in which its time is over,
and a rest follows: until the others' own steps have taken `_REST` times as long as
the slice did. So explanations take a quarter of the engine's time at most, and a
token is late by one slice.
"""

from __future__ import annotations

_REST = 3.0
_SLICE_SECONDS = 0.02  # while others run
_IDLE_SLICE_SECONDS = 0.05  # while nobody does: how late a newcomer's first step may be


class Pace:
    """Says when the next slice may come, and how long it may be."""

    def __init__(self) -> None:
        self._rest = 0.0  # seconds of others' steps that are still due

    def slice_seconds(self, *, others_run: bool) -> float:
        """Seconds that may be spent on explaining now; 0 while it has to rest."""
        if not others_run:
            self._rest = 0.0
            return _IDLE_SLICE_SECONDS
        return _SLICE_SECONDS if self._rest <= 0 else 0.0

    def spent(self, seconds: float) -> None:
        """Explaining took so long."""
        self._rest = max(0.0, self._rest) + _REST * seconds

    def others_ran(self, seconds: float) -> None:
        """A step without any explaining in it took so long."""
        self._rest -= seconds
