"""Where the tokens of a step stand, as the Triton kernels read it: 32-bit numbers on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from miao_worker.engine.paged_batch import Chunk, PagedBatch
from miao_worker.engine.transfer import upload

QUERIES = 64  # of a prefill tile

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class KernelStep:
    """Decodes first, then chunks.

    slots (tokens,): block * block_size + offset; outside the pool: not stored.
    lengths (decodes,), 0 for a row of padding; tables (decodes, width), flat; width (1,).
    tiles (tiles, 4): line of chunk_tables, first token, its position, tokens.
    """

    num_decodes: int
    slots: Tensor
    lengths: Tensor
    tables: Tensor
    width: Tensor
    tiles: Tensor
    chunk_tables: Tensor  # (chunks, blocks)


def kernel_step(batch: PagedBatch) -> KernelStep:
    """Send a packed batch's numbers to the device in one piece."""
    slots = batch.blocks * batch.block_size + batch.positions % batch.block_size
    tables = batch.tables.ravel()
    width = [batch.tables.shape[1] if batch.tables.ndim == 2 else 0]
    tiles, chunk_tables = _tiles(batch.chunks), _chunk_tables(batch.chunks)
    parts = [slots, batch.lengths, np.array(width), tables, tiles.ravel(), chunk_tables.ravel()]
    sizes = [len(part) for part in parts]
    numbers = upload(np.concatenate(parts).astype(np.int32), batch.device)
    sent = torch.split(numbers, sizes)
    return KernelStep(
        num_decodes=batch.num_decodes,
        slots=sent[0],
        lengths=sent[1],
        width=sent[2],
        tables=sent[3],
        tiles=sent[4].view(-1, 4),
        chunk_tables=sent[5].view(chunk_tables.shape),
    )


def _tiles(chunks: list[Chunk]) -> Numbers:
    tiles = [
        (line, chunk.offset + begin, chunk.start + begin, min(QUERIES, chunk.num_tokens - begin))
        for line, chunk in enumerate(chunks)
        for begin in range(0, chunk.num_tokens, QUERIES)
    ]
    return np.array(tiles, dtype=np.int32).reshape(-1, 4)


def _chunk_tables(chunks: list[Chunk]) -> Numbers:
    width = max((len(chunk.table) for chunk in chunks), default=0)
    tables = np.zeros((len(chunks), width), dtype=np.int32)
    for line, chunk in enumerate(chunks):
        tables[line, : len(chunk.table)] = chunk.table
    return tables
