"""Where the tokens of one step stand: positions, blocks, who may look at what.

Everything is derived once for a step and kept for all of its layers. Built with
numpy, whose small operations cost a tenth of a tensor's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from miao_worker.engine.transfer import upload

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Decoding sequences of similar length, attended to in one call."""

    rows: Tensor  # (n,) which decodes
    block_index: Tensor  # (n * kv_heads * blocks,) the (block, head) pairs to gather
    mask: Tensor  # (n, 1, 1, blocks * block_size) additive


@dataclass(slots=True)
class Chunk:
    """The tokens of one sequence that a step prefills."""

    offset: int  # of its first token in the packed row
    start: int  # position of its first token in the sequence
    end: int
    table: Indices  # (blocks,) of the sequence, up to `end`
    block_size: int
    device: torch.device
    _indices: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _masks: dict[tuple[int | None, int, int, int], Tensor] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    @property
    def tokens(self) -> slice:
        """Its place in the packed row."""
        return slice(self.offset, self.offset + self.num_tokens)

    def is_plainly_causal(self, window: int | None) -> bool:
        """Whether it starts its sequence and no query's window cuts a key off."""
        return self.start == 0 and (window is None or self.num_tokens <= window)

    def block_index(self, window: int | None, kv_heads: int) -> tuple[Tensor, int]:
        """The (head, block) pairs of the keys in reach, and the first key's position."""
        reach = 0 if window is None else max(0, self.start - window + 1)
        first_block = reach // self.block_size
        index = self._indices.get((first_block, kv_heads))
        if index is None:
            blocks = self.table[first_block:]
            pairs = blocks[None, :] * kv_heads + np.arange(kv_heads)[:, None]
            index = self._indices[first_block, kv_heads] = _tensor(pairs.ravel(), self.device)
        return index, first_block * self.block_size

    def mask(
        self, window: int | None, first: int, begin: int, count: int, dtype: torch.dtype
    ) -> Tensor:
        """Additive mask of `count` queries from the chunk's token `begin`, keys from `first`.

        Shape (count, end - first).
        """
        key = (window, first, begin, count)
        mask = self._masks.get(key)
        if mask is None:
            queries = np.arange(self.start + begin, self.start + begin + count)[:, None]
            keys = np.arange(first, self.end)[None, :]
            allowed = keys <= queries
            if window is not None:
                allowed &= keys > queries - window
            mask = self._masks[key] = _additive(allowed, dtype, self.device)
        return mask


class PagedBatch:
    """One step: decodes first, then chunks, packed in one row.

    Shapes: positions and blocks (tokens,), the block that each token is written
    to; tables (decodes, blocks) the decodes' block tables, of which only what
    `lengths` covers is read; lengths (decodes,) tokens with the one being computed.
    """

    def __init__(
        self,
        *,
        positions: Indices,
        blocks: Indices,
        tables: Indices,
        lengths: Indices,
        chunks: list[Chunk],
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.num_decodes = len(lengths)
        self.chunks = chunks
        self.positions = positions
        self.blocks = blocks
        self.tables = tables
        self.lengths = lengths
        self.block_size = block_size
        self._dtype = dtype
        self.device = device
        self._write_indices: dict[int, Tensor] = {}
        self._groups: dict[tuple[int | None, int], list[DecodeGroup]] = {}

    def write_index(self, kv_heads: int) -> Tensor:
        """The pool's lines for the batch's keys, heads outermost: (kv_heads * tokens,)."""
        index = self._write_indices.get(kv_heads)
        if index is None:
            heads = np.arange(kv_heads)[:, None]
            offsets = self.positions % self.block_size
            lines = (self.blocks * kv_heads + heads) * self.block_size + offsets
            index = self._write_indices[kv_heads] = _tensor(lines.ravel(), self.device)
        return index

    def decode_groups(self, window: int | None, kv_heads: int) -> list[DecodeGroup]:
        """The decodes, split where padding to the longest would waste more than it saves."""
        groups = self._groups.get((window, kv_heads))
        if groups is None:
            first = self._first_positions(window) // self.block_size
            counts = -(-self.lengths // self.block_size) - first
            groups = [
                self._decode_group(rows, first[rows], int(counts[rows].max()), window, kv_heads)
                for rows in _split_by_size(counts)
            ]
            self._groups[window, kv_heads] = groups
        return groups

    def _first_positions(self, window: int | None) -> Indices:
        """The first position that each decode attends to."""
        if window is None:
            return np.zeros_like(self.lengths)
        return np.maximum(self.lengths - window, 0)

    def _decode_group(
        self, rows: Indices, first: Indices, num_blocks: int, window: int | None, kv_heads: int
    ) -> DecodeGroup:
        columns = first[:, None] + np.arange(num_blocks)  # (n, blocks)
        last = (self.lengths[rows, None] - 1) // self.block_size
        padded = np.minimum(columns, last)  # with a block of the sequence's own, masked below
        blocks = self.tables[rows[:, None], padded]
        pairs = blocks[:, None, :] * kv_heads + np.arange(kv_heads)[None, :, None]
        positions = columns[:, :, None] * self.block_size + np.arange(self.block_size)
        positions = positions.reshape(len(rows), -1)
        allowed = positions < self.lengths[rows, None]
        allowed &= positions >= self._first_positions(window)[rows, None]
        return DecodeGroup(
            rows=_tensor(rows, self.device),
            block_index=_tensor(pairs.ravel(), self.device),
            mask=_additive(allowed, self._dtype, self.device)[:, None, None, :],
        )


def _split_by_size(counts: Indices) -> list[Indices]:
    """Rows grouped so that padding within a group stays under a factor of two.

    A batch whose padding is small stays whole: a group costs a fixed overhead.
    """
    if counts.max() * len(counts) <= 1.5 * counts.sum():
        return [np.arange(len(counts))]
    classes = np.ceil(np.log2(counts)).astype(np.int64)
    return [np.flatnonzero(classes == c) for c in np.unique(classes)]


def _additive(allowed: npt.NDArray[np.bool_], dtype: torch.dtype, device: torch.device) -> Tensor:
    mask = np.where(allowed, np.float32(0), np.float32(-np.inf))
    return upload(mask, device).to(dtype)


def _tensor(indices: Indices, device: torch.device) -> Tensor:
    return upload(np.ascontiguousarray(indices), device)
