"""Which of the tokens drawn after a proposal are those of plain decoding."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Protocol, TypeVar

from miao_worker.engine.batch import Proposal


class Sampled(Protocol):
    """What was drawn in a row."""

    @property
    def token_id(self) -> int | None: ...


_Sampled = TypeVar("_Sampled", bound=Sampled)


def valid_samples(proposal: Proposal, samples: Items[_Sampled]) -> Items[_Sampled]:
    """The samples up to the first that differs from what was proposed in its place.

    Row i was drawn with the proposal's first i tokens before it, by the position's
    own uniform. So it is what plain decoding draws there, as long as the tokens
    before it are: nothing is accepted by chance, the output is the same.
    """
    for count, (token_id, sample) in enumerate(zip(proposal, samples, strict=False), 1):
        if sample.token_id != token_id:
            return samples[:count]
    return samples
