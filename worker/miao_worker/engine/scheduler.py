"""Which sequences compute how many tokens in the next step. Knows no torch.

Continuous batching (Orca, OSDI 2022) with chunked prefill (Sarathi-Serve, OSDI
2024): every running sequence decodes; what is left of the step's tokens goes to
prompts, first come first served. When blocks run out, the sequence that came
last gives its blocks back and waits at the head of the queue; it is computed
again later, as far as the prefix cache has not kept it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Items
from typing import Protocol

from miao_worker.engine.batch import Batch, Prefill, Proposal
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.errors import AdapterError
from miao_worker.engine.sequence import Sequence


class AdapterPlaces(Protocol):
    """Keeps what running sequences need beside the model; see `AdapterStore`."""

    def acquire(self, adapter_id: str | None) -> bool: ...

    def release(self, adapter_id: str | None) -> None: ...


class Scheduler:
    """Holds the waiting and the running sequences; each is in one of the two.

    A step costs O(running): the waiting ones are only looked at from the head.
    """

    def __init__(
        self,
        blocks: BlockManager,
        max_sequences: int,
        max_batch_tokens: int,
        max_scored_tokens: int = 1 << 30,
        adapters: AdapterPlaces | None = None,
    ) -> None:
        """Begin with nothing.

        max_scored_tokens: prompt tokens scored in one step, whose logits take memory.
        adapters: None where no sequence has one.
        """
        self._blocks = blocks
        self._adapters = adapters
        self._refused: list[tuple[Sequence, AdapterError]] = []
        self._max_running = min(max_sequences, max_batch_tokens)
        self._max_batch_tokens = max_batch_tokens
        self._max_scored_tokens = max_scored_tokens
        self._num_scores_left = 0  # in this step
        self._waiting: OrderedDict[str, Sequence] = OrderedDict()
        self._running: dict[str, Sequence] = {}  # in the order of arrival
        self._free_rows = list(reversed(range(self._max_running)))
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def has_unfinished(self) -> bool:
        return bool(self._waiting or self._running)

    def __contains__(self, sequence_id: object) -> bool:
        return sequence_id in self._running or sequence_id in self._waiting

    def add(self, sequence: Sequence) -> None:
        self._waiting[sequence.sequence_id] = sequence

    def remove(self, sequence_id: str) -> Sequence | None:
        """Take a sequence out and free its blocks, wherever it stands; None where unknown."""
        sequence = self._running.pop(sequence_id, None)
        if sequence is None:
            return self._waiting.pop(sequence_id, None)
        self._release(sequence)
        return sequence

    @property
    def may_preempt(self) -> bool:
        """Whether the next step may have to take a running sequence's blocks."""
        num_free = self._blocks.num_free_blocks
        if num_free >= len(self._running):
            return False
        return sum(map(self._blocks.is_at_the_end, self._running.values())) > num_free

    def get(self, sequence_id: str) -> Sequence | None:
        return self._running.get(sequence_id) or self._waiting.get(sequence_id)

    def schedule(self) -> Batch:
        """Choose the next step's tokens, at most `max_batch_tokens`."""
        batch = Batch()
        self._num_scores_left = self._max_scored_tokens
        self._schedule_decodes(batch)
        budget = self._max_batch_tokens - len(batch.decodes)
        budget = self._continue_prefills(batch, budget)
        self._admit_waiting(batch, budget)
        return batch

    def take_refused(self) -> list[tuple[Sequence, AdapterError]]:
        """The sequences that left when their adapter could not be loaded, and why."""
        refused, self._refused = self._refused, []
        return refused

    def spare_tokens(self, batch: Batch) -> int:
        """How many more tokens the step may compute."""
        return self._max_batch_tokens - batch.num_tokens

    def speculate(self, batch: Batch, proposals: Items[Proposal]) -> None:
        """Let a scheduled batch try proposals, one for each of its decodes.

        They are cut to the step's spare tokens and the free blocks: nothing is
        preempted for a proposal. `settle` must follow for each that has one.
        """
        budget, kept = self.spare_tokens(batch), []
        for sequence, proposal in zip(batch.decodes, proposals, strict=True):
            num_tokens = self._blocks.stretch(sequence, min(len(proposal), budget))
            budget -= num_tokens
            kept.append(tuple(proposal[:num_tokens]))
        if any(kept):
            batch.proposals = kept

    def settle(self, sequence: Sequence) -> None:
        """Keep what a sequence has of its proposal, give the room for the rest back."""
        self._blocks.publish(sequence, sequence.num_computed_tokens)
        self._blocks.trim(sequence)

    def _schedule_decodes(self, batch: Batch) -> None:
        block_size, decodes = self._blocks.block_size, batch.decodes
        for sequence in list(self._running.values()):
            num_tokens = len(sequence.token_ids)
            if sequence.is_stopped or num_tokens - sequence.num_computed_tokens != 1:
                continue
            # In the midst of a block that it holds there is nothing to secure or publish.
            if num_tokens % block_size > 1 and sequence.row is not None:
                decodes.append(sequence)
            elif self._secure_block(sequence):
                self._blocks.publish(sequence, sequence.num_known_tokens)
                decodes.append(sequence)

    def _secure_block(self, sequence: Sequence) -> bool:
        """Make room for the last token, at the cost of later sequences or of itself."""
        while sequence.row is not None:
            if self._blocks.grow(sequence):
                return True
            self._preempt(next(reversed(self._running.values())))
        return False

    def _preempt(self, sequence: Sequence) -> None:
        del self._running[sequence.sequence_id]
        self._release(sequence)
        sequence.num_computed_tokens = 0
        self._waiting[sequence.sequence_id] = sequence
        self._waiting.move_to_end(sequence.sequence_id, last=False)
        self.num_preemptions += 1

    def _continue_prefills(self, batch: Batch, budget: int) -> int:
        if len(batch.decodes) == len(self._running):
            return budget
        for sequence in self._running.values():
            if budget and sequence.num_uncomputed_tokens > 1 and not sequence.is_stopped:
                budget = self._schedule_chunk(batch, sequence, budget)
        return budget

    def _admit_waiting(self, batch: Batch, budget: int) -> None:
        while budget and self._waiting and self._free_rows:
            sequence = next(iter(self._waiting.values()))
            if sequence.wants_scores and not self._num_scores_left:
                return
            try:
                if self._adapters is not None and not self._adapters.acquire(sequence.adapter):
                    return
            except AdapterError as error:
                del self._waiting[sequence.sequence_id]
                self._refused.append((sequence, error))
                continue
            # Each running sequence may soon need one more block.
            if not self._blocks.admit(sequence, reserve=len(self._running)):
                self._release_adapter(sequence)
                return
            self._start(sequence)
            budget = self._schedule_chunk(batch, sequence, budget)

    def _start(self, sequence: Sequence) -> None:
        del self._waiting[sequence.sequence_id]
        self._running[sequence.sequence_id] = sequence
        sequence.row = self._free_rows.pop()
        if sequence.num_cached_tokens is None:
            sequence.num_cached_tokens = min(
                sequence.num_computed_tokens, sequence.num_prompt_tokens
            )

    def _schedule_chunk(self, batch: Batch, sequence: Sequence, budget: int) -> int:
        num_tokens = self._chunk_size(sequence, budget)
        if not num_tokens:
            return budget
        prefill = Prefill.of(sequence, num_tokens)
        self._blocks.publish(sequence, prefill.end)
        batch.prefills.append(prefill)
        self._num_scores_left -= len(prefill.scored)
        return budget - num_tokens

    def _chunk_size(self, sequence: Sequence, budget: int) -> int:
        num_tokens = min(budget, sequence.num_uncomputed_tokens - sequence.is_only_scored)
        if not sequence.wants_scores:
            return num_tokens
        num_unscored = max(0, sequence.next_scored - 1 - sequence.num_computed_tokens)
        return min(num_tokens, num_unscored + self._num_scores_left)

    def _release_adapter(self, sequence: Sequence) -> None:
        if self._adapters is not None:
            self._adapters.release(sequence.adapter)

    def _release(self, sequence: Sequence) -> None:
        self._blocks.release(sequence)
        self._release_adapter(sequence)
        if sequence.row is not None:
            self._free_rows.append(sequence.row)
            sequence.row = None
