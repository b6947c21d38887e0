"""The tokens that go from one step to the next on the device."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from miao_worker.engine.sequence import Sequence
from miao_worker.engine.transfer import upload


@dataclass(frozen=True, slots=True)
class Carried:
    """Tokens to compute which only the device knows: it drew them in the step before.

    The token of decode `places[i]` is `drawn[rows[i]]`.
    """

    drawn: Tensor  # (rows of the step before,) int64
    rows: list[int]
    places: list[int]

    def fill_(self, token_ids: Tensor) -> None:
        """Put the tokens in their places. Shape: token_ids (tokens,), decodes first."""
        rows, places = (upload(np.array(x), self.drawn.device) for x in (self.rows, self.places))
        token_ids.index_copy_(0, places, self.drawn.index_select(0, rows))

    @classmethod
    def of(cls, decodes: Items[Sequence], drawn: Tensor) -> Carried | None:
        """Of the decodes those whose last token is pending; None where there are none."""
        pairs = [(q.pending_row, i) for i, q in enumerate(decodes) if q.pending_row is not None]
        if not pairs:
            return None
        return cls(drawn, [row for row, _ in pairs], [place for _, place in pairs])
