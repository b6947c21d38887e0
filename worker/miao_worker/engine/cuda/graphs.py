"""Decode steps as recorded graphs, one for each size of batch.

A step of one token for each sequence launches hundreds of kernels; recorded
once, they start with one call. A graph reads and writes the same memory each
time, so a step's numbers are copied into the inputs of the least graph that has
room for its rows. The rows behind them are padding: of length 0, they read and
write no keys and values, and their logits are cut off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.carried import Carried
from miao_worker.engine.cuda.step import KernelStep
from miao_worker.engine.paged_batch import Indices, PagedBatch
from miao_worker.engine.transfer import send

Forward = Callable[[Tensor, Tensor, KernelStep], Tensor]
"""Logits (rows, vocab) of token ids (rows,) at positions (rows,)."""

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""Records work; returns what repeats it, and where its result then lies."""

_LARGEST = 512  # rows; a larger batch computes long enough to hide its launches

_log = logging.getLogger(__name__)


class CannotCaptureError(Exception):
    """The model waits for the device amid its forward pass; the message says what failed."""


def graph_sizes(max_rows: int) -> list[int]:
    """Rows of the graphs: powers of two, then closer, since padding is computed too."""
    steps = [1, 2, 4, 8, 16, *range(32, 256, 32), *range(256, _LARGEST + 1, 64)]
    top = min(max_rows, _LARGEST)
    return [size for size in steps if size < top] + [top]


@dataclass(frozen=True, slots=True)
class _Graph:
    """One size's inputs and output, which stay where they are."""

    token_ids: Tensor  # (2, rows): token ids, positions
    numbers: Tensor  # (1 + 2 rows + rows * blocks,): table width, lengths, slots, tables
    logits: Tensor  # (rows, vocab)
    replay: Callable[[], object]


class DecodeGraphs:
    """Runs the steps that only decode."""

    def __init__(
        self,
        forward: Forward,
        capture: Capture,
        *,
        sizes: list[int],
        max_blocks: int,
        num_slots: int,
        device: torch.device,
    ) -> None:
        """Record a graph for each size, the largest first: the others share its memory.

        max_blocks: of one sequence; num_slots: tokens that the pool holds.
        Raises CannotCaptureError.
        """
        self._forward = forward
        self._capture = capture
        self._max_blocks = max_blocks
        self._num_slots = num_slots
        self._device = device
        self._graphs = {size: self._record(size) for size in sorted(sizes, reverse=True)}
        self._sizes = sorted(sizes)

    def run(self, token_ids: Indices, batch: PagedBatch, carried: Carried | None) -> Tensor | None:
        """Logits (rows, vocab), which hold until the next run; None where no graph is so large."""
        rows = batch.num_decodes
        size = next((size for size in self._sizes if size >= rows), None)
        if size is None:
            return None
        graph = self._graphs[size]
        self._fill(graph, size, token_ids, batch)
        if carried is not None:
            carried.fill_(graph.token_ids[0])
        graph.replay()
        return graph.logits[:rows]

    def _record(self, size: int) -> _Graph:
        token_ids = torch.zeros(2, size, dtype=torch.int64, device=self._device)
        count = 1 + 2 * size + size * self._max_blocks
        numbers = torch.zeros(count, dtype=torch.int32, device=self._device)
        numbers[1 + size : 1 + 2 * size] = self._num_slots  # all is padding
        step = KernelStep(
            num_decodes=size,
            width=numbers[:1],
            lengths=numbers[1 : 1 + size],
            slots=numbers[1 + size : 1 + 2 * size],
            tables=numbers[1 + 2 * size :],
            tiles=numbers[:0].view(0, 4),
            chunk_tables=numbers[:0].view(0, 0),
        )
        replay, logits = self._capture(lambda: self._forward(token_ids[0], token_ids[1], step))
        return _Graph(token_ids, numbers, logits, replay)

    def _fill(self, graph: _Graph, size: int, token_ids: Indices, batch: PagedBatch) -> None:
        """Copy the step's numbers, in two pieces, and of the tables what is used."""
        rows, width = batch.tables.shape
        tokens = np.zeros((2, size), dtype=np.int64)
        tokens[:, :rows] = token_ids, batch.positions
        send(tokens, graph.token_ids)
        numbers = np.zeros(1 + 2 * size + rows * width, dtype=np.int32)
        numbers[0] = width
        numbers[1 : 1 + rows] = batch.lengths
        slots = numbers[1 + size : 1 + 2 * size]
        slots[:] = self._num_slots
        slots[:rows] = batch.blocks * batch.block_size + batch.positions % batch.block_size
        numbers[1 + 2 * size :] = batch.tables.ravel()
        send(numbers, graph.numbers[: len(numbers)])


class CudaCapture:
    """Records with CUDA, all graphs in one pool of memory: they never run at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Raises CannotCaptureError."""
        try:
            self._warm_up(work)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                result = work()
        except RuntimeError as error:
            raise CannotCaptureError(str(error).partition("\n")[0]) from error
        return graph.replay, result

    def _warm_up(self, work: Callable[[], Tensor]) -> None:
        """Compile what is compiled at first use; then see that nothing waits for the device."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        before = torch.cuda.get_sync_debug_mode()
        with torch.cuda.stream(stream):
            work()
            torch.cuda.set_sync_debug_mode("error")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream(self._device).wait_stream(stream)


def record_graphs(
    forward: Forward,
    capture: Capture,
    *,
    max_rows: int,
    max_blocks: int,
    num_slots: int,
    device: torch.device,
) -> DecodeGraphs | None:
    """The graphs for up to `max_rows` rows; None, with a word in the log, where they fail."""
    try:
        return DecodeGraphs(
            forward,
            capture,
            sizes=graph_sizes(max_rows),
            max_blocks=max_blocks,
            num_slots=num_slots,
            device=device,
        )
    except CannotCaptureError as error:
        _log.warning("decoding runs without CUDA graphs: %s", error)
        return None
