"""Log-probabilities of the chosen tokens, for the rows that ask for them."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.transfer import upload
from miao_worker.engine.types import TokenLogprobs


@dataclass(frozen=True, slots=True)
class LogprobTable:
    """The asking rows' numbers, under the raw logits in float32, on the device.

    Shapes: chosen (asking, 1); values and token_ids (asking, most alternatives),
    likeliest first.
    """

    wanted: list[int | None]  # alternatives, for each row of the batch; None: does not ask
    chosen: Tensor
    values: Tensor
    token_ids: Tensor

    @classmethod
    def of(cls, logits: Tensor, chosen: Tensor, wanted: Items[int | None]) -> LogprobTable | None:
        """None where no row asks. Shapes: logits (rows, vocab), chosen (rows,) int64."""
        asking = [row for row, count in enumerate(wanted) if count is not None]
        if not asking:
            return None
        rows = upload(np.array(asking), logits.device)
        table = torch.log_softmax(logits.index_select(0, rows).float(), dim=-1)
        width = min(max(count for count in wanted if count is not None), logits.shape[-1])
        values, token_ids = table.topk(width, dim=-1)
        said = table.gather(1, chosen.index_select(0, rows)[:, None])
        return cls(list(wanted), said, values, token_ids)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.chosen, self.values, self.token_ids

    def read(
        self, token_ids: Items[int | None], tables: Items[Tensor]
    ) -> list[TokenLogprobs | None]:
        """Each row's, of the downloaded `tensors`; None where it did not ask or has no token."""
        lines = zip(*(table.tolist() for table in tables), strict=True)
        results: list[TokenLogprobs | None] = []
        for token_id, count in zip(token_ids, self.wanted, strict=True):
            if count is None:
                results.append(None)
                continue
            (chosen,), values, alternatives = next(lines)
            top = tuple(zip(alternatives[:count], values[:count], strict=True))
            results.append(None if token_id is None else TokenLogprobs(chosen, top))
        return results
