"""Each pooling, beside the sum that defines it, with padding that must not count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from miao_worker.engine.encoder.pooling import Pooling, pool

LENGTHS = (5, 1, 3)


def by_hand(tokens: Tensor, pooling: Pooling) -> Tensor:
    """Of the tokens of one input, (length, size)."""
    match pooling:
        case Pooling.CLS:
            return tokens[0]
        case Pooling.MAX:
            return tokens.amax(0)
        case Pooling.MEAN:
            return tokens.mean(0)
        case Pooling.MEAN_SQRT:
            return tokens.sum(0) / len(tokens) ** 0.5
        case Pooling.WEIGHTED_MEAN:
            weights = torch.arange(1.0, len(tokens) + 1)
            return (tokens * weights[:, None]).sum(0) / weights.sum()
        case Pooling.LAST:
            return tokens[-1]


@pytest.mark.parametrize("pooling", Pooling)
def test_padding_does_not_count(pooling: Pooling) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(3, 5, 4) - 3  # the maximum is below the zeros of a wrong mask
    mask = torch.tensor([[int(i < n) for i in range(5)] for n in LENGTHS])
    pooled = pool(hidden, mask, [pooling])
    for row, tokens, length in zip(pooled, hidden, LENGTHS, strict=True):
        torch.testing.assert_close(row, by_hand(tokens[:length], pooling))


def test_several_stand_side_by_side() -> None:
    hidden, mask = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.long)
    both = pool(hidden, mask, [Pooling.CLS, Pooling.MEAN])
    torch.testing.assert_close(both, torch.cat([hidden[:, 0], hidden.mean(1)], dim=-1))
