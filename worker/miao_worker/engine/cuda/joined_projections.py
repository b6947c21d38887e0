"""Projections of the same input as one product: queries, keys and values; gate and up.

A model of transformers calls them one after the other with the very same tensor. The
first call computes all, the others take their part. So a decode step on a GPU, which
waits for memory and for launches, has four products a layer where it had seven.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as Items

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

_log = logging.getLogger(__name__)


def join_projections(model: nn.Module) -> int:
    """Join what can be, in place; returns how many groups there were."""
    count = 0
    for owner in model.modules():
        for names in GROUPS:
            linears = [getattr(owner, name, None) for name in names]
            plain = [linear for linear in linears if type(linear) is nn.Linear]
            if len(plain) == len(names) and _fit(plain):
                joined = _Joined(plain)
                for index, name in enumerate(names):
                    setattr(owner, name, _Part(joined, index))
                count += 1
    _log.info("joined the products of %d groups of projections", count)
    return count


def _fit(linears: Items[nn.Linear]) -> bool:
    """Whether they take the same input in the same precision."""
    return len({(each.in_features, each.weight.dtype, each.weight.device) for each in linears}) == 1


class _Joined(nn.Module):
    """All projections of a group, and what they gave for the last input."""

    def __init__(self, linears: Items[nn.Linear]) -> None:
        super().__init__()
        with torch.no_grad():
            self.weight = nn.Parameter(
                torch.cat([linear.weight for linear in linears]), requires_grad=False
            )
            self.bias = _joined_bias(linears)
        self._sizes = [linear.out_features for linear in linears]
        self._input: Tensor | None = None
        self._parts: tuple[Tensor, ...] = ()

    def part(self, index: int, x: Tensor) -> Tensor:
        """Of one projection. All are kept until the last of them has been taken."""
        if x is not self._input:
            together = F.linear(x, self.weight, self.bias)
            self._parts = torch.split(together, self._sizes, dim=-1)
            self._input = x
        part = self._parts[index]
        if index == len(self._sizes) - 1:
            self._input, self._parts = None, ()
        return part


def _joined_bias(linears: Items[nn.Linear]) -> nn.Parameter | None:
    if all(linear.bias is None for linear in linears):
        return None
    biases: list[Tensor] = [
        linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
        for linear in linears
    ]
    return nn.Parameter(torch.cat(biases), requires_grad=False)


class _Part(nn.Module):
    """Stands where a projection stood."""

    def __init__(self, joined: _Joined, index: int) -> None:
        super().__init__()
        self.joined = joined
        self._index = index

    def forward(self, x: Tensor) -> Tensor:
        return self.joined.part(self._index, x)
