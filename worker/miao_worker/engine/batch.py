"""What a step computes: the scheduler's decision, as the model runner reads it."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from miao_worker.engine.sequence import Sequence

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from miao_worker.engine.carried import Carried


@dataclass(frozen=True, slots=True)
class Prefill:
    """The tokens of a sequence from `start` up to `end`.

    scored: the positions whose logits score the prompt token after them.
    """

    sequence: Sequence
    start: int
    end: int
    is_last: bool  # reaches the last token, whose logits yield the next
    scored: range = range(0)

    @classmethod
    def of(cls, sequence: Sequence, num_tokens: int) -> Prefill:
        start = sequence.num_computed_tokens
        end = start + num_tokens
        scored = sequence.scored_positions(start, end)
        return cls(sequence, start, end, is_last=end == sequence.num_tokens, scored=scored)

    @property
    def num_tokens(self) -> int:
        return self.end - self.start


Proposal = tuple[int, ...]  # tokens that a sequence may go on with


@dataclass(slots=True)
class Batch:
    """Sequences that compute their last token, then those that compute several.

    A decode yields a token, a prefill only when it reaches the end. A decode
    with a proposal computes the proposed tokens too, each in a row of its own
    that sees the ones before it, and every row has logits:

        computes   [ last token | proposed 1 | proposed 2 ]
        yields        token 1      token 2      token 3
                                   if token 1 is proposed 1 ...

    `sampled` names the sequences of the rows that have logits, in their order. Behind
    these come the rows of `scored`: prompt tokens whose log-probabilities are wanted.
    """

    decodes: list[Sequence] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)  # one for each decode, or no list
    carried: Carried | None = None  # never beside proposals

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)

    @property
    def num_tokens(self) -> int:
        return self.num_decode_rows + sum(prefill.num_tokens for prefill in self.prefills)

    @property
    def num_decode_rows(self) -> int:
        return len(self.decodes) + sum(map(len, self.proposals))

    @property
    def decode_rows(self) -> list[Sequence]:
        """The sequence of each row that decodes: its last token, then what is proposed."""
        if not self.proposals:
            return self.decodes
        pairs = zip(self.decodes, self.proposals, strict=True)
        return [sequence for sequence, proposal in pairs for _ in range(1 + len(proposal))]

    @property
    def sampled(self) -> list[Sequence]:
        return [*self.decode_rows, *(p.sequence for p in self.prefills if p.is_last)]

    @property
    def scored(self) -> list[Prefill]:
        """Those of the prefills that score prompt tokens."""
        return [prefill for prefill in self.prefills if prefill.scored]

    @property
    def sequences(self) -> list[Sequence]:
        """Each sequence that the step computes, once."""
        return [*self.decodes, *(prefill.sequence for prefill in self.prefills)]

    @property
    def is_adapted(self) -> bool:
        """Whether any of them has an adapter."""
        return any(sequence.adapter is not None for sequence in self.sequences)

    @property
    def proposed_before(self) -> list[Proposal] | None:
        """For each row of `sampled` the proposed tokens that it takes as said; None: no row any."""
        if not self.proposals:
            return None
        before = [proposal[:end] for proposal in self.proposals for end in range(len(proposal) + 1)]
        return before + [()] * sum(prefill.is_last for prefill in self.prefills)

    @property
    def yielding(self) -> list[tuple[Sequence, Proposal]]:
        """Each sequence that yields tokens, once, with its proposal."""
        proposals = self.proposals or [()] * len(self.decodes)
        lasts = [(p.sequence, ()) for p in self.prefills if p.is_last]
        return [*zip(self.decodes, proposals, strict=True), *lasts]

    def mark_computed(self) -> None:
        """Count the batch's tokens as computed, once they are; not those proposed."""
        for sequence in self.decodes:
            sequence.num_computed_tokens += 1
        for prefill in self.prefills:
            prefill.sequence.num_computed_tokens = prefill.end
        for prefill in self.scored:
            sequence = prefill.sequence
            sequence.next_scored = prefill.scored.stop + 1
            if sequence.is_only_scored and not sequence.wants_scores:
                sequence.is_stopped = True


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
        """Compute the batch. Returns logits, (rows, vocab), of sampled, then of scored rows.

        They are the caller's to change, and hold until the next call: the next one may
        write to the same memory.
        """
        ...

    def erase(self, blocks: Items[int]) -> None:
        """Clear blocks whose content must not reach their next holder."""
        ...
