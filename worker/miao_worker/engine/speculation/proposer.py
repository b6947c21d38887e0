"""Where proposed tokens come from."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Protocol

from miao_worker.engine.batch import Proposal
from miao_worker.engine.sequence import Sequence


class Proposer(Protocol):
    """Guesses how decoding sequences go on. A bad guess costs time, never a wrong token."""

    @property
    def usual_length(self) -> int:
        """Tokens that are worth proposing at once where nobody says how many."""
        ...

    def propose(self, sequences: Items[Sequence], lengths: Items[int]) -> list[Proposal]:
        """At most lengths[i] tokens to follow sequences[i]; () where it has no idea."""
        ...
