"""Encodes what many requests ask, in batches of like length.

The counterpart of `engine.Engine` for models that do not generate: the same
commands, and steps that bring the requests which have all of their rows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.length_batches import LengthBatches, Waiting
from miao_worker.engine.encoder.loader import load_encoder
from miao_worker.engine.encoder.runner import EncoderRunner, PaddedRunner
from miao_worker.engine.encoder.types import (
    EncoderTask,
    EncodingOutput,
    EncodingRequest,
    EngineRequest,
)
from miao_worker.engine.errors import AdapterError
from miao_worker.engine.types import EngineStats, FinishReason, StepOutput

_NOT_FINITE = "the model's output was not finite"
_FILLED_TOKENS = 128  # that a CPU computes nearly as fast as fewer


@dataclass(slots=True)
class _Running:
    """A request and the rows that it has."""

    request: EncodingRequest
    rows: list[bytes | None] = field(default_factory=list)
    num_missing: int = 0


class EncoderEngine:
    """Runs the requests that were added until each has ended or is cancelled.

    Every request ends in exactly one output with a finish reason, unless it is
    cancelled. Not thread-safe.
    """

    def __init__(self, config: EngineConfig, runner: EncoderRunner) -> None:
        self._runner = runner
        on_cuda = isinstance(runner, PaddedRunner) and runner.device.type == "cuda"
        filled = config.max_batch_tokens if on_cuda else _FILLED_TOKENS
        self._waiting = LengthBatches(config.max_batch_tokens, filled)
        self._running: dict[str, _Running] = {}
        self._ended_early: list[EncodingOutput] = []
        self._num_steps = 0

    @property
    def has_unfinished(self) -> bool:
        """Whether another step has anything to do or to report."""
        return bool(self._running) or bool(self._ended_early)

    def add(self, request: EngineRequest) -> None:
        """Queue a request. One that cannot run ends with ERROR in the next step.

        Raises ValueError for an id that is already here.
        """
        if request.sequence_id in self._running:
            raise ValueError(f"request {request.sequence_id} is already in the engine")
        if not isinstance(request, EncodingRequest):
            self._end_early(request.sequence_id, "the model does not generate")
            return
        fault = encoding_fault(request, self._runner)
        if fault is not None:
            self._end_early(request.sequence_id, fault)
            return
        count = len(request.inputs)
        self._running[request.sequence_id] = _Running(request, [None] * count, count)
        lengths = [len(each.token_ids) for each in request.inputs]
        self._waiting.add(request.sequence_id, lengths)

    def cancel(self, sequence_id: str) -> None:
        """Take a request out; nothing more is reported of it."""
        self._running.pop(sequence_id, None)
        self._waiting.remove(sequence_id)
        self._ended_early = [o for o in self._ended_early if o.sequence_id != sequence_id]

    def register_adapter(self, adapter_id: str, folder: Path) -> None:
        """Raises AdapterError."""
        raise AdapterError("adapters are for models that generate")

    def drop_adapter(self, adapter_id: str) -> None:
        """Nothing: there are none."""

    def step(self) -> StepOutput:
        """Compute the next batch; returns the requests that it completes."""
        outputs, self._ended_early = self._ended_early, []
        batch = self._waiting.take()
        if batch:
            self._num_steps += 1
            inputs = [self._running[each.key].request.inputs[each.place] for each in batch]
            for each, numbers in zip(batch, self._runner.run(inputs), strict=True):
                outputs += self._accept(each, numbers)
        return StepOutput(tuple(outputs), self._stats())

    def _accept(self, waiting: Waiting, numbers: Tensor) -> list[EncodingOutput]:
        running = self._running.get(waiting.key)
        if running is None:  # failed with another of its inputs in this batch
            return []
        if not torch.isfinite(numbers).all():
            self.cancel(waiting.key)
            return [_failed(waiting.key, _NOT_FINITE)]
        running.rows[waiting.place] = self._row(running.request, numbers)
        running.num_missing -= 1
        if running.num_missing:
            return []
        del self._running[waiting.key]
        rows = tuple(row for row in running.rows if row is not None)
        return [EncodingOutput(waiting.key, finish_reason=FinishReason.STOP, rows=rows)]

    def _row(self, request: EncodingRequest, numbers: Tensor) -> bytes:
        """What the request makes of one input's numbers."""
        if request.task is EncoderTask.EMBED:
            vector = numbers[: request.dimensions]
            asked = request.normalize
            scaled = self._runner.normalizes if asked is None else asked
            return to_bytes(normalize(vector, dim=-1) if scaled else vector)
        scores = numbers if request.raw_scores else self._runner.scores(numbers)
        if request.task is EncoderTask.CLASSIFY:
            return to_bytes(scores)
        best, labels = scores.max(-1)
        return to_bytes(torch.stack([labels.float(), best], dim=-1))

    def _end_early(self, sequence_id: str, error: str) -> None:
        self._ended_early.append(_failed(sequence_id, error))

    def _stats(self) -> EngineStats:
        return EngineStats(
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            num_steps=self._num_steps,
        )


def load_engine(config: EngineConfig, task: EncoderTask) -> tuple[EncoderEngine, PaddedRunner]:
    """An engine for the model that `config` names. Raises ModelLoadError."""
    runner = PaddedRunner(load_encoder(config, task))
    return EncoderEngine(config, runner), runner


def encoding_fault(request: EncodingRequest, runner: EncoderRunner) -> str | None:
    """Why the request cannot run; None where it can."""
    if request.task is not runner.task:
        return f"the model does {runner.task.value}, not {request.task.value}"
    if not request.inputs:
        return "there is no input"
    if request.dimensions is not None and not 1 <= request.dimensions <= runner.dimensions:
        return f"dimensions must be between 1 and {runner.dimensions}"
    for each in request.inputs:
        if not 0 < len(each.token_ids) <= runner.max_length:
            return f"an input has {len(each.token_ids)} tokens, not 1 to {runner.max_length}"
        if not _within(each.token_ids, runner.vocab_size):
            return f"a token id is outside the vocabulary of {runner.vocab_size}"
        if each.type_ids and len(each.type_ids) != len(each.token_ids):
            return "an input has not as many types as tokens"
        if any(each.type_ids) and not _within(each.type_ids, runner.type_vocab_size):
            return f"a type id is not below {runner.type_vocab_size}"
    return None


def to_bytes(numbers: Tensor) -> bytes:
    """Float32 with the lowest byte first, in the order of the tensor."""
    array = numbers.contiguous().numpy()
    if sys.byteorder == "big":
        array = array.byteswap()
    return bytes(array.tobytes())


def _within(ids: Sequence[int], limit: int) -> bool:
    return min(ids) >= 0 and max(ids) < limit


def _failed(sequence_id: str, error: str) -> EncodingOutput:
    return EncodingOutput(sequence_id, finish_reason=FinishReason.ERROR, error=error)
