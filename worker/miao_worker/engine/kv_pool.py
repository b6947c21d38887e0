"""The paged memory of keys and values, one pair of tensors for each layer.

    keys[layer]: (num_blocks * kv_heads, block_size, key_dim)

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


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer keeps for each token."""

    kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def num_values(self) -> int:
        return self.kv_heads * (self.key_dim + self.value_dim)


class KVPool:
    """Keys and values of all layers; a block id means the same block in each."""

    def __init__(
        self,
        layers: Mapping[int, LayerShape],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.layers = dict(layers)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.dtype = dtype
        self.device = device
        self._keys = {i: self._allocate(s.kv_heads, s.key_dim) for i, s in layers.items()}
        self._values = {i: self._allocate(s.kv_heads, s.value_dim) for i, s in layers.items()}

    def _allocate(self, kv_heads: int, head_dim: int) -> Tensor:
        shape = (self.num_blocks * kv_heads, self.block_size, head_dim)
        return zeros(shape, self.dtype, self.device)

    def write(self, layer: int, index: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store a batch's keys and values.

        Shapes: keys, values (kv_heads, tokens, dim); index (kv_heads * tokens,),
        each the line of a (block, head, offset).
        """
        for pool, new in ((self._keys[layer], keys), (self._values[layer], values)):
            lines = new.reshape(-1, new.shape[-1]).to(self.dtype)
            pool.view(-1, pool.shape[-1]).index_copy_(0, index, lines)

    def gather(self, layer: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of (block, head) pairs: each (pairs, block_size, dim)."""
        return (
            self._keys[layer].index_select(0, index),
            self._values[layer].index_select(0, index),
        )

    def tensors(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's memory of keys and of values, for kernels with an order of their own.

        Each (num_blocks, whatever a block holds); only the block is meant, not the order in it.
        """
        return self._keys[layer], self._values[layer]

    def erase(self, blocks: Items[int]) -> None:
        """Set blocks to zero in every layer."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        for pool in (*self._keys.values(), *self._values.values()):
            pool.view(self.num_blocks, -1).index_fill_(0, index, 0)


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on the CPU of memory that the system commits only when it is written."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, dtype=np.uint8)).view(dtype).view(shape)
