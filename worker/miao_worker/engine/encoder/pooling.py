"""From the vectors of tokens to one vector: the poolings of sentence-transformers.

Shapes: hidden (rows, length, size) float32; mask (rows, length) with 1 for a
token and 0 for padding, which comes last. Each pooling gives (rows, size).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
from torch import Tensor


class Pooling(StrEnum):
    """A way to pool, by its name in the files; several are put side by side in this order."""

    CLS = "cls"
    MAX = "max"
    MEAN = "mean"
    MEAN_SQRT = "mean_sqrt_len_tokens"
    WEIGHTED_MEAN = "weightedmean"
    LAST = "lasttoken"


def pool(hidden: Tensor, mask: Tensor, poolings: Sequence[Pooling]) -> Tensor:
    """The pooled vectors, (rows, size * number of poolings)."""
    return torch.cat([_POOLINGS[each](hidden, mask) for each in poolings], dim=-1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0]


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask[..., None] == 0, -torch.inf).amax(1)


def _sum(hidden: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights[:, None].to(hidden.dtype), hidden)[:, 0]


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return _sum(hidden, mask) / mask.sum(1, keepdim=True)


def _mean_sqrt(hidden: Tensor, mask: Tensor) -> Tensor:
    return _sum(hidden, mask) / mask.sum(1, keepdim=True).sqrt()


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The k-th token counts k times."""
    weights = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
    return _sum(hidden, weights) / weights.sum(1, keepdim=True)


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, mask.sum(1) - 1]


_POOLINGS: dict[Pooling, Callable[[Tensor, Tensor], Tensor]] = {
    Pooling.CLS: _first,
    Pooling.MAX: _max,
    Pooling.MEAN: _mean,
    Pooling.MEAN_SQRT: _mean_sqrt,
    Pooling.WEIGHTED_MEAN: _weighted_mean,
    Pooling.LAST: _last,
}
