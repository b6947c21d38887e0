"""How many tokens are proposed for one sequence, by how its last proposals fared."""

from __future__ import annotations

_PATIENCE = 3  # proposals refused whole before one is left out
_MAX_WAIT = 64  # steps


class Pace:
    """Grows while everything is accepted, shrinks to what was; pauses when nothing is."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._length = max_tokens
        self._num_refused = 0  # proposals in a row of which nothing was accepted
        self._wait = 0

    def next_length(self) -> int:
        """Tokens to ask for in this step; 0 while it pauses."""
        if self._wait:
            self._wait -= 1
            return 0
        return self._length

    def note(self, num_proposed: int, num_accepted: int) -> None:
        """Learn from a verified proposal."""
        if num_accepted == num_proposed:
            self._length = min(self._max_tokens, max(self._length, 2 * num_accepted))
        else:
            self._length = num_accepted + 1
        self._num_refused = 0 if num_accepted else self._num_refused + 1
        if self._num_refused >= _PATIENCE:
            self._wait = min(_MAX_WAIT, 2 ** (self._num_refused - _PATIENCE))
