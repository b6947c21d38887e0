"""A model runner whose sequences may each have an adapter."""

from __future__ import annotations

from collections.abc import Sequence as Items

import torch
from torch import Tensor
from transformers import PreTrainedModel

from miao_worker.engine.adapters.stack import Stack
from miao_worker.engine.adapters.step import Adaptation, AdapterStep
from miao_worker.engine.adapters.store import AdapterStore
from miao_worker.engine.batch import Batch, ModelRunner

_KEEP_STEPS = 64  # for which an adapter that nobody uses stays in the stack


class AdaptingRunner:
    """Runs batches on another runner, whose linear layers look at `adaptation`.

    A batch without adapters is the other runner's own affair. The stack of the
    adapters in use is built when one comes to it, and without those that have not
    been used for a while.
    """

    def __init__(self, runner: ModelRunner, adapters: AdapterStore, adaptation: Adaptation) -> None:
        self._runner = runner
        self.adapters = adapters
        self._adaptation = adaptation
        self._stack = Stack(())
        self._used: dict[str, int] = {}  # the step in which a member was last used
        self._num_steps = 0

    @property
    def vocab_size(self) -> int:
        return self._runner.vocab_size

    @property
    def num_blocks(self) -> int:
        return self._runner.num_blocks

    @property
    def max_model_length(self) -> int:
        return self._runner.max_model_length

    @property
    def device(self) -> torch.device:
        return self._runner.device

    @property
    def dtype(self) -> torch.dtype:
        return self._runner.dtype

    @property
    def original_model(self) -> PreTrainedModel | None:
        """The model without adapters, where it is transformers' own."""
        model: PreTrainedModel | None = getattr(self._runner, "original_model", None)
        return model

    def run(self, batch: Batch) -> Tensor:
        """Compute the batch. Returns logits (len(batch.sampled), vocab)."""
        wanted = {q.adapter for q in batch.sequences if q.adapter is not None}
        if not wanted:
            return self._runner.run(batch)
        self._bring_together(wanted)
        self._adaptation.step = AdapterStep(self._stack, batch, self.device)
        try:
            return self._runner.run(batch)
        finally:
            self._adaptation.step = None

    def erase(self, blocks: Items[int]) -> None:
        self._runner.erase(blocks)

    @torch.inference_mode()
    def _bring_together(self, wanted: set[str]) -> None:
        self._num_steps += 1
        self._used.update(dict.fromkeys(wanted, self._num_steps))
        stale = [a for a, step in self._used.items() if step < self._num_steps - _KEEP_STEPS]
        for adapter_id in stale:
            del self._used[adapter_id]
        if stale or not wanted <= self._stack.places.keys():
            known = {member.adapter_id: member for member in self._stack.members}
            members = [known.get(a) or self.adapters.weights(a) for a in self._used]
            self._stack = Stack(members)
