"""The paged memory of keys and values, one pair of tensors for each layer.

    keys[layer]: (num_blocks * kv_heads, block_size, key_dim)

A rounded pool keeps 8-bit numbers, with a scale for each token's keys and one for its
values in each head.

A block's heads lie one after the other, so gathering (block, head) pairs brings
each head's keys out contiguous, ready for a matrix product without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine import large_pages


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer keeps for each token."""

    kv_heads: int
    key_dim: int
    value_dim: int

    def token_bytes(self, dtype: torch.dtype, is_rounded: bool) -> int:
        """What one token takes in the pool."""
        num_values = self.kv_heads * (self.key_dim + self.value_dim)
        if is_rounded:
            return num_values + self.kv_heads * 2 * torch.float32.itemsize
        return num_values * dtype.itemsize


class KVPool:
    """Keys and values of all layers; a block id means the same block in each."""

    def __init__(
        self,
        layers: Mapping[int, LayerShape],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        is_rounded: bool = False,
    ) -> None:
        """`dtype`: of what is stored and gathered, whether or not the pool rounds it."""
        self.layers = dict(layers)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.dtype = dtype
        self.device = device
        self.is_rounded = is_rounded
        self._keys = {i: self._allocate(s.kv_heads, s.key_dim) for i, s in layers.items()}
        self._values = {i: self._allocate(s.kv_heads, s.value_dim) for i, s in layers.items()}
        self._scales = {i: self._allocate_scales(s.kv_heads) for i, s in layers.items()}

    def _allocate(self, kv_heads: int, head_dim: int) -> Tensor:
        shape = (self.num_blocks * kv_heads, self.block_size, head_dim)
        return zeros(shape, torch.int8 if self.is_rounded else self.dtype, self.device)

    def _allocate_scales(self, kv_heads: int) -> tuple[Tensor, Tensor] | None:
        """The scales of keys and of values: each (num_blocks * kv_heads, block_size)."""
        if not self.is_rounded:
            return None
        shape = (self.num_blocks * kv_heads, self.block_size)
        return (
            zeros(shape, torch.float32, self.device),
            zeros(shape, torch.float32, self.device),
        )

    def write(self, layer: int, index: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store a batch's keys and values.

        Shapes: keys, values (kv_heads, tokens, dim); index (kv_heads * tokens,),
        each the line of a (block, head, offset).
        """
        scales = self._scales[layer] or (None, None)
        pools = (self._keys[layer], self._values[layer])
        for pool, scale, new in zip(pools, scales, (keys, values), strict=True):
            lines = new.reshape(-1, new.shape[-1]).to(self.dtype)
            if scale is not None:
                lines, line_scales = _rounded(lines)
                scale.view(-1).index_copy_(0, index, line_scales)
            pool.view(-1, pool.shape[-1]).index_copy_(0, index, lines)

    def gather(self, layer: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of (block, head) pairs: each (pairs, block_size, dim)."""
        keys, values = self._keys[layer], self._values[layer]
        found = (keys.index_select(0, index), values.index_select(0, index))
        scales = self._scales[layer]
        if scales is None:
            return found
        key_scales, value_scales = (each.index_select(0, index)[..., None] for each in scales)
        return (found[0] * key_scales).to(self.dtype), (found[1] * value_scales).to(self.dtype)

    def scales(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """A layer's scales of keys and of values, where it is rounded."""
        return self._scales[layer]

    def tensors(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's memory of keys and of values, for kernels with an order of their own.

        Each (num_blocks, whatever a block holds); only the block is meant, not the order in it.
        """
        return self._keys[layer], self._values[layer]

    def erase(self, blocks: Items[int]) -> None:
        """Set blocks to zero in every layer."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        scales = [each for pair in self._scales.values() if pair is not None for each in pair]
        for pool in (*self._keys.values(), *self._values.values(), *scales):
            pool.view(self.num_blocks, -1).index_fill_(0, index, 0)


def _rounded(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Lines (n, dim) as 8-bit numbers, and the scale of each; NaN where a line is not finite."""
    wide = lines.float()
    scale = wide.abs().amax(dim=1) / 127
    numbers = (wide / scale.clamp_min(1e-30)[:, None]).nan_to_num_(0.0).round_()
    return numbers.to(torch.int8), torch.where(scale.isfinite(), scale, torch.nan)


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on the CPU of memory that the system commits only when it is written."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes >= large_pages.LARGE_PAGE:  # blocks lie anywhere in it
        return large_pages.zeros(num_bytes).view(dtype).view(shape)
    return torch.from_numpy(np.zeros(num_bytes, dtype=np.uint8)).view(dtype).view(shape)
