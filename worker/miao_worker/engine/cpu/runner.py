"""Runs an adapted decoder over batches, straight from the scheduler's decision."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from miao_worker.engine.adapters.files import Modules
from miao_worker.engine.adapters.step import Adaptation
from miao_worker.engine.batch import Batch
from miao_worker.engine.cpu.adapted_layers import AdaptedLayers, sites_of
from miao_worker.engine.cpu.decoder import Decoder
from miao_worker.engine.cpu.kernels import MAX_ROWS, StepStruct
from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.packing import BlockTables, sampled_places, token_ids_of

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """The kernels' view of a step, and the arrays it points to."""

    struct: StepStruct
    arrays: tuple[Indices, ...]


class DecoderRunner:
    """The engine's `ModelRunner` on the compiled kernels."""

    def __init__(
        self,
        decoder: Decoder,
        pool: KVPool,
        max_model_length: int,
        max_sequences: int,
    ) -> None:
        self._decoder = decoder
        self._pool = pool
        attention = decoder.layers[0].attention
        self._queries_per_task = max(1, MAX_ROWS // (attention.heads // attention.kv_heads))
        self._tables = BlockTables(max_sequences, -(-max_model_length // pool.block_size))
        self.max_model_length = max_model_length
        self.vocab_size = decoder.vocab_size
        self.num_blocks = pool.num_blocks
        self.device = pool.device
        self.dtype = decoder.dtype

    @torch.inference_mode()
    def run(self, batch: Batch) -> Tensor:
        """Compute the batch. Returns logits, (rows, vocab), of sampled, then of scored rows."""
        step = self._step(batch)
        places = sampled_places(batch)
        are_all = len(places) == batch.num_tokens and not batch.scored
        wanted = None if are_all else torch.from_numpy(places)
        token_ids = torch.from_numpy(token_ids_of(batch))
        if batch.carried is not None:
            batch.carried.fill_(token_ids)
        return self._decoder.forward(token_ids, step.struct, wanted)

    def adapt(self, modules: Modules, adaptation: Adaptation, activation: str) -> None:
        """Let the layers look at `adaptation`; raises ModelLoadError where they cannot."""
        layers = self._decoder.layers
        sites = sites_of(modules, len(layers))
        adapted = AdaptedLayers.of(layers, sites, adaptation, activation)
        if self._decoder.fused is not None:
            self._decoder.fused.adapt(sites)
        self._decoder = replace(self._decoder, adapted=adapted)

    def erase(self, blocks: Items[int]) -> None:
        self._pool.erase(blocks)

    def _step(self, batch: Batch) -> Step:
        decodes, prefills = batch.decodes, batch.prefills
        sequences = [*decodes, *(p.sequence for p in prefills)]
        counts = np.ones(len(sequences), dtype=np.int64)
        if batch.proposals:
            counts[: len(decodes)] += [len(proposal) for proposal in batch.proposals]
        counts[len(decodes) :] = [p.num_tokens for p in prefills]
        first = [*(q.num_tokens - 1 for q in decodes), *(p.start for p in prefills)]
        starts = np.zeros(len(sequences) + 1, dtype=np.int64)
        np.cumsum(counts, out=starts[1:])
        rows = np.repeat(np.arange(len(sequences)), counts)
        positions = np.arange(starts[-1]) - (starts[:-1] - first)[rows]
        columns = positions // self._pool.block_size
        tables = self._tables.lines(sequences, int(columns.max()) + 1)
        blocks = tables[rows, columns]
        tasks = self._tasks(starts, counts)
        arrays = (positions, blocks, starts, tables, tasks)
        struct = StepStruct(
            len(positions),
            len(sequences),
            tables.shape[1],
            len(tasks),
            *(array.ctypes.data for array in arrays),
        )
        return Step(struct, arrays)

    def _tasks(self, starts: Indices, counts: Indices) -> Indices:
        """(sequence, first token, tokens) of each attention task, the longest rows first."""
        size = self._queries_per_task
        num_tasks = -(-counts // size)
        sequence = np.repeat(np.arange(len(counts)), num_tasks)
        order = np.arange(len(sequence)) - np.repeat(np.cumsum(num_tasks) - num_tasks, num_tasks)
        first = starts[sequence] + order * size
        tokens = np.minimum(starts[sequence + 1] - first, size)
        return np.ascontiguousarray(np.stack([sequence, first, tokens], axis=1)[::-1])
