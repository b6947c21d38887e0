"""What a step computes: the scheduler's decision, as the model runner reads it."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from miao_worker.engine.sequence import Sequence

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prefill:
    """The tokens of a sequence from `start` up to `end`."""

    sequence: Sequence
    start: int
    end: int
    is_last: bool  # reaches the last token, whose logits yield the next

    @classmethod
    def of(cls, sequence: Sequence, num_tokens: int) -> Prefill:
        start = sequence.num_computed_tokens
        end = start + num_tokens
        return cls(sequence, start, end, is_last=end == sequence.num_tokens)

    @property
    def num_tokens(self) -> int:
        return self.end - self.start


@dataclass(slots=True)
class Batch:
    """Sequences that compute their last token, then those that compute several.

    A decode always yields a token, a prefill only when it reaches the end.
    `sampled` names those that do, in the order of the runner's logits.
    """

    decodes: list[Sequence] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)

    @property
    def num_tokens(self) -> int:
        return len(self.decodes) + sum(prefill.num_tokens for prefill in self.prefills)

    @property
    def sampled(self) -> list[Sequence]:
        return [*self.decodes, *(p.sequence for p in self.prefills if p.is_last)]

    def mark_computed(self) -> None:
        """Count the batch's tokens as computed, once they are."""
        for sequence in self.decodes:
            sequence.num_computed_tokens += 1
        for prefill in self.prefills:
            prefill.sequence.num_computed_tokens = prefill.end


class ModelRunner(Protocol):
    """Computes batches; keeps keys and values in the blocks that sequences hold."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def num_blocks(self) -> int: ...

    @property
    def max_model_length(self) -> int:
        """Tokens of prompt and output together; never more than the blocks hold."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def run(self, batch: Batch) -> Tensor:
        """Compute the batch. Returns logits (len(batch.sampled), vocab)."""
        ...

    def erase(self, blocks: Items[int]) -> None:
        """Clear blocks whose content must not reach their next holder."""
        ...
