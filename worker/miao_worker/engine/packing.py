"""Lays the tokens of a batch in one row and says where each belongs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.batch import Batch
from miao_worker.engine.paged_batch import Chunk, Indices, PagedBatch
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.transfer import upload

Span = tuple[int, int, int]  # a line of the block tables, first position, end


@dataclass(frozen=True, slots=True)
class StepNumbers:
    """A batch in numbers alone: with the block tables' lines all that computing it takes."""

    token_ids: Indices  # (tokens,) decodes first, then chunks
    rows: Indices  # (decodes,) the table's line of each
    positions: Indices  # (decodes,)
    chunks: list[Span]
    sampled: Indices  # (rows,) the places whose logits are wanted


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

    def __init__(self, num_rows: int, max_blocks: int, keeps_news: bool = False) -> None:
        """`keeps_news`: for `take_news`, where somebody else has a copy of the lines."""
        self._lines = np.zeros((num_rows, max_blocks), dtype=np.int64)
        self._written: list[tuple[list[int], int]] = [([], 0)] * num_rows
        self._news: list[tuple[int, int, list[int]]] | None = [] if keeps_news else None

    def line(self, sequence: Sequence) -> Indices:
        """The sequence's line, up to date with its block table."""
        row, table = _row(sequence), sequence.block_table
        written_table, num_written = self._written[row]
        if written_table is not table:  # another sequence, or one admitted again
            num_written = 0
        if num_written < len(table):
            self.write(row, num_written, table[num_written:])
            self._written[row] = (table, len(table))
        line: Indices = self._lines[row]
        return line

    def write(self, row: int, start: int, blocks: list[int]) -> None:
        """Put blocks into a line, from column `start` on."""
        self._lines[row, start : start + len(blocks)] = blocks
        if self._news is not None:
            self._news.append((row, start, blocks))

    def take_news(self) -> list[tuple[int, int, list[int]]]:
        """What was written since the last call, as `write` takes it."""
        news, self._news = self._news or [], []
        return news

    def update(self, batch: Batch) -> None:
        """Bring the lines of all sequences of the batch up to date."""
        for sequence in batch.sequences:
            self.line(sequence)

    def lines(self, sequences: list[Sequence], num_blocks: int) -> Indices:
        """The first `num_blocks` columns of the sequences' lines: (sequences, num_blocks)."""
        for sequence in sequences:
            self.line(sequence)
        return self.columns([_row(sequence) for sequence in sequences], num_blocks)

    def columns(self, rows: Indices | list[int], num_blocks: int) -> Indices:
        """The first `num_blocks` columns of some lines, as they are: (rows, num_blocks)."""
        lines: Indices = self._lines[rows, :num_blocks]
        return lines

    def prefix(self, row: int, num_blocks: int) -> Indices:
        """The first `num_blocks` of one line."""
        line: Indices = self._lines[row, :num_blocks]
        return line


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

    def numbers(self, batch: Batch) -> StepNumbers:
        """The batch in numbers; the tables are up to date with it then."""
        self._tables.update(batch)
        return StepNumbers(
            token_ids=token_ids_of(batch),
            rows=np.array([_row(sequence) for sequence in batch.decode_rows], dtype=np.int64),
            positions=_decode_positions(batch),
            chunks=[(_row(p.sequence), p.start, p.end) for p in batch.prefills],
            sampled=sampled_places(batch),
        )

    def pack(self, numbers: StepNumbers) -> PackedBatch:
        """Send what the numbers say to the device."""
        paged = self.place(numbers)
        return PackedBatch(
            token_ids=self._to_device(numbers.token_ids)[None],
            positions=self._to_device(paged.positions)[None],
            sampled=self._to_device(numbers.sampled),
            paged=paged,
        )

    def place(self, numbers: StepNumbers) -> PagedBatch:
        """Where the batch's tokens stand; nothing is sent to the device yet."""
        chunks = self._chunks(numbers)
        positions = numbers.positions
        lengths = positions + 1
        width = int(positions.max()) // self._block_size + 1 if len(positions) else 0
        tables = self._tables.columns(numbers.rows, width)
        if chunks:
            spans = (np.arange(start, end) for _, start, end in numbers.chunks)
            positions = np.concatenate([positions, *spans])
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

    def _chunks(self, numbers: StepNumbers) -> list[Chunk]:
        chunks = []
        offset = len(numbers.rows)
        for span in numbers.chunks:
            chunks.append(self._chunk(span, offset))
            offset += chunks[-1].num_tokens
        return chunks

    def _chunk(self, span: Span, offset: int) -> Chunk:
        row, start, end = span
        return Chunk(
            offset=offset,
            start=start,
            end=end,
            table=self._tables.prefix(row, -(-end // self._block_size)),
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


def _decode_positions(batch: Batch) -> Indices:
    """The position of each row that decodes: (decodes,)."""
    positions = np.array([q.num_tokens - 1 for q in batch.decode_rows], dtype=np.int64)
    if batch.proposals:
        positions += np.concatenate([np.arange(1 + len(p)) for p in batch.proposals])
    return positions


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
