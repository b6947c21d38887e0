"""Lays the tokens of a batch in one row and says where each belongs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.batch import Batch, Prefill
from miao_worker.engine.paged_batch import Chunk, Indices, PagedBatch
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.transfer import upload


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """The model's input for one step."""

    token_ids: Tensor  # (1, tokens)
    positions: Tensor  # (1, tokens)
    sampled: Tensor  # (rows,) the places whose logits are wanted
    paged: PagedBatch


class BlockTables:
    """The block tables of the running sequences as lines of one array.

    A line is written as its sequence grows, so a step copies new blocks alone.
    """

    def __init__(self, num_rows: int, max_blocks: int) -> None:
        self._lines = np.zeros((num_rows, max_blocks), dtype=np.int64)
        self._written: list[tuple[list[int], int]] = [([], 0)] * num_rows

    def line(self, sequence: Sequence) -> Indices:
        """The sequence's line, up to date with its block table."""
        row, table = _row(sequence), sequence.block_table
        written_table, num_written = self._written[row]
        if written_table is not table:  # another sequence, or one admitted again
            num_written = 0
        if num_written < len(table):
            self._lines[row, num_written : len(table)] = table[num_written:]
            self._written[row] = (table, len(table))
        line: Indices = self._lines[row]
        return line

    def lines(self, sequences: list[Sequence], num_blocks: int) -> Indices:
        """The first `num_blocks` columns of the sequences' lines: (sequences, num_blocks)."""
        for sequence in sequences:
            self.line(sequence)
        rows = [_row(sequence) for sequence in sequences]
        lines: Indices = self._lines[rows, :num_blocks]
        return lines


def _row(sequence: Sequence) -> int:
    assert sequence.row is not None, "only running sequences are packed"
    return sequence.row


class Packer:
    """Packs batches for one pool."""

    def __init__(
        self, tables: BlockTables, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._tables = tables
        self._block_size = block_size
        self._dtype = dtype
        self._device = device

    def pack(self, batch: Batch) -> PackedBatch:
        paged = self.place(batch)
        token_ids = self._to_device(token_ids_of(batch))
        if batch.carried is not None:
            batch.carried.fill_(token_ids)
        return PackedBatch(
            token_ids=token_ids[None],
            positions=self._to_device(paged.positions)[None],
            sampled=self._to_device(sampled_places(batch)),
            paged=paged,
        )

    def place(self, batch: Batch) -> PagedBatch:
        """Where the batch's tokens stand; nothing is sent to the device yet."""
        rows = batch.decode_rows
        positions, chunks = self._positions(batch), self._chunks(batch)
        lengths = positions[: len(rows)] + 1
        width = int(lengths.max() - 1) // self._block_size + 1 if len(lengths) else 0
        tables = self._tables.lines(rows, width)
        return PagedBatch(
            positions=positions,
            blocks=self._blocks(tables, positions, chunks),
            tables=tables,
            lengths=lengths,
            chunks=chunks,
            block_size=self._block_size,
            dtype=self._dtype,
            device=self._device,
        )

    def _positions(self, batch: Batch) -> Indices:
        decodes = np.array([q.num_tokens - 1 for q in batch.decode_rows], dtype=np.int64)
        if batch.proposals:
            decodes += np.concatenate([np.arange(1 + len(p)) for p in batch.proposals])
        if not batch.prefills:
            return decodes
        return np.concatenate([decodes, *(np.arange(p.start, p.end) for p in batch.prefills)])

    def _chunks(self, batch: Batch) -> list[Chunk]:
        chunks = []
        offset = batch.num_decode_rows
        for prefill in batch.prefills:
            chunks.append(self._chunk(prefill, offset))
            offset += prefill.num_tokens
        return chunks

    def _chunk(self, prefill: Prefill, offset: int) -> Chunk:
        num_blocks = -(-prefill.end // self._block_size)
        return Chunk(
            offset=offset,
            start=prefill.start,
            end=prefill.end,
            table=self._tables.line(prefill.sequence)[:num_blocks],
            block_size=self._block_size,
            device=self._device,
        )

    def _blocks(self, tables: Indices, positions: Indices, chunks: list[Chunk]) -> Indices:
        """The block that each token is written to: (tokens,)."""
        columns = positions // self._block_size
        decodes = tables[np.arange(len(tables)), columns[: len(tables)]]
        if not chunks:
            return decodes
        return np.concatenate([decodes, *(c.table[columns[c.tokens]] for c in chunks)])

    def _to_device(self, values: Indices) -> Tensor:
        return upload(values, self._device)


def token_ids_of(batch: Batch) -> Indices:
    """The tokens that a step computes, in the order of its row."""
    token_ids = [q.token_ids[-1] for q in batch.decodes]
    if batch.proposals:
        pairs = zip(token_ids, batch.proposals, strict=True)
        token_ids = [token for last, proposal in pairs for token in (last, *proposal)]
    for prefill in batch.prefills:
        token_ids += prefill.sequence.token_ids[prefill.start : prefill.end]
    return np.array(token_ids, dtype=np.int64)


def sampled_places(batch: Batch) -> Indices:
    """Where in the row the tokens stand whose logits are wanted: sampled, then scored."""
    offset = batch.num_decode_rows
    places = list(range(offset))
    scored: list[int] = []
    for prefill in batch.prefills:
        scored += (offset + position - prefill.start for position in prefill.scored)
        offset += prefill.num_tokens
        if prefill.is_last:
            places.append(offset - 1)
    return np.array(places + scored, dtype=np.int64)
