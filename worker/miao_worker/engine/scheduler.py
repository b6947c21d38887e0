"""Which sequences compute how many tokens in the next step. Knows no torch.

Continuous batching (Orca, OSDI 2022) with chunked prefill (Sarathi-Serve, OSDI
2024): every running sequence decodes; what is left of the step's tokens goes to
prompts, first come first served. When blocks run out, the sequence that came
last gives its blocks back and waits at the head of the queue; it is computed
again later, as far as the prefix cache has not kept it.

Where several tenants are there, each keeps that order for itself, and they share:
a step's prompt tokens are divided among them, and who has fewer rows than others
takes one over, also from a full batch (`shares`). A tenant that comes into a full batch
does so in a step of its own, so that its first token waits for nobody's prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Items
from typing import Protocol

from miao_worker.engine.batch import Batch, Prefill, Proposal
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.errors import AdapterError
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.shares import by_rank, divide, may_take_from
from miao_worker.engine.waiting import WaitingLines

# What decodes add to a step with a prompt of more tokens than this for each of them is
# less than an eighth.
_SHORT_TOKENS = 8


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
        decodes_cost: bool = True,
    ) -> None:
        """Begin with nothing.

        max_scored_tokens: prompt tokens scored in one step, whose logits take memory.
        adapters: None where no sequence has one.
        decodes_cost: whether a short prompt takes longer with decodes beside it. Not so on
            a GPU, which reads the weights meanwhile.
        """
        self._blocks = blocks
        self._adapters = adapters
        self._refused: list[tuple[Sequence, AdapterError]] = []
        self._max_running = min(max_sequences, max_batch_tokens)
        self._max_batch_tokens = max_batch_tokens
        self._max_scored_tokens = max_scored_tokens
        self._decodes_cost = decodes_cost
        self._num_scores_left = 0  # in this step
        self._waiting = WaitingLines()
        self._running: dict[str, Sequence] = {}  # in the order of arrival
        self._free_rows = list(reversed(range(self._max_running)))
        self._was_newcomers = False  # the step before
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
        self._waiting.add(sequence)

    def remove(self, sequence_id: str) -> Sequence | None:
        """Take a sequence out and free its blocks, wherever it stands; None where unknown."""
        sequence = self._running.pop(sequence_id, None)
        if sequence is None:
            return self._waiting.remove(sequence_id)
        self._release(sequence)
        return sequence

    @property
    def may_preempt(self) -> bool:
        """Whether the next step may have to take a running sequence's blocks."""
        if self._next_giver() is not None:
            return True
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
        may_come_first, self._was_newcomers = not self._was_newcomers, False
        if self._is_shared():
            self._schedule_shared(batch, may_come_first)
            return batch
        self._schedule_decodes(batch, list(self._running.values()))
        budget = self._continue_prefills(batch, self.spare_tokens(batch))
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

    def _schedule_decodes(self, batch: Batch, order: list[Sequence]) -> None:
        block_size, decodes = self._blocks.block_size, batch.decodes
        for sequence in list(order):
            num_tokens = len(sequence.token_ids)
            if sequence.is_stopped or num_tokens - sequence.num_computed_tokens != 1:
                continue
            # In the midst of a block that it holds there is nothing to secure or publish.
            if num_tokens % block_size > 1 and sequence.row is not None:
                decodes.append(sequence)
            elif self._secure_block(sequence, order):
                self._blocks.publish(sequence, sequence.num_known_tokens)
                decodes.append(sequence)

    def _secure_block(self, sequence: Sequence, order: list[Sequence]) -> bool:
        """Make room for the last token, at the cost of later sequences or of itself.

        order: the sequences that ran as the step began; those that gave way leave its end.
        """
        while sequence.row is not None:
            if self._blocks.grow(sequence):
                return True
            self._preempt(order.pop())
        return False

    def _preempt(self, sequence: Sequence) -> None:
        del self._running[sequence.sequence_id]
        self._release(sequence)
        sequence.num_computed_tokens = 0
        self._waiting.put_back(sequence)
        self.num_preemptions += 1

    def _continue_prefills(self, batch: Batch, budget: int) -> int:
        if len(batch.decodes) == len(self._running):
            return budget
        for sequence in self._running.values():
            if budget and sequence.num_uncomputed_tokens > 1 and not sequence.is_stopped:
                budget = self._schedule_chunk(batch, sequence, budget)
        return budget

    def _admit_waiting(self, batch: Batch, budget: int) -> None:
        while budget and (sequence := self._admit(self._waiting.first())) is not None:
            budget = self._schedule_chunk(batch, sequence, budget)

    def _admit(self, sequence: Sequence | None) -> Sequence | None:
        """Give a waiting sequence a row and blocks; None where it has to wait on.

        One whose adapter cannot be loaded leaves, and the next one comes in its place.
        """
        while sequence is not None and self._free_rows:
            if sequence.wants_scores and not self._num_scores_left:
                return None
            try:
                if self._adapters is not None and not self._adapters.acquire(sequence.adapter):
                    return None
            except AdapterError as error:
                self._waiting.remove(sequence.sequence_id)
                self._refused.append((sequence, error))
                sequence = self._waiting.first(sequence.tenant)
                continue
            # Each running sequence may soon need one more block.
            if not self._blocks.admit(sequence, reserve=len(self._running)):
                self._release_adapter(sequence)
                return None
            self._start(sequence)
            return sequence
        return None

    # Several tenants

    def _is_shared(self) -> bool:
        """Whether more than one tenant is there."""
        running = {sequence.tenant for sequence in self._running.values()}
        return len(running | self._waiting.tenants) > 1

    def _rows(self) -> Counter[str]:
        return Counter(sequence.tenant for sequence in self._running.values())

    def _next_taker(self, rows: Counter[str]) -> Sequence | None:
        """Of those that wait: the first of the tenant that has the fewest rows."""
        firsts = (self._waiting.first(tenant) for tenant in self._waiting.tenants)
        return min(
            (first for first in firsts if first is not None),
            key=lambda first: (rows[first.tenant] + 1) / first.weight,
            default=None,
        )

    def _next_giver(self) -> Sequence | None:
        """Who gives way to a tenant that has fewer rows and cannot come in; None if nobody."""
        if not self._waiting or not self._is_shared():
            return None
        rows = self._rows()
        taker, giver = self._next_taker(rows), next(reversed(by_rank(self._running.values())), None)
        if taker is None or giver is None or taker.tenant == giver.tenant:
            return None
        if self._free_rows and self._blocks.has_room_for(taker, reserve=len(self._running)):
            return None
        have = (rows[taker.tenant], taker.weight), (rows[giver.tenant], giver.weight)
        return giver if may_take_from(*have) else None

    def _schedule_shared(self, batch: Batch, may_come_first: bool) -> None:
        self._make_room()
        comes_first = may_come_first and self._meets_others()
        if comes_first and self._decodes_cost:
            self._was_newcomers = self._admit_newcomers(batch, _SHORT_TOKENS * self.num_running)
        if self._was_newcomers:
            return
        self._schedule_decodes(batch, by_rank(self._running.values()))
        if comes_first:
            self._was_newcomers = self._admit_newcomers(batch, self._max_batch_tokens)
        if not self._was_newcomers:
            self._share_prefills(batch, self.spare_tokens(batch))

    def _make_room(self) -> None:
        """Let the next tenant that has fewer rows in, at the cost of who has more."""
        while (giver := self._next_giver()) is not None:
            self._preempt(giver)

    # Newcomers: the first of tenants that have no row, where others have prompts too. They have
    # every other step at most, so that from a token to the next nobody waits for two of them.

    def _meets_others(self) -> bool:
        """Whether somebody who has no row waits, and somebody who has rows has prompts as well."""
        if not self._waiting:
            return False
        rows = self._rows()
        have_rows = {rows[tenant] > 0 for tenant in self._waiting.tenants}
        if all(have_rows):
            return False
        return any(have_rows) or any(s.num_uncomputed_tokens > 1 for s in self._running.values())

    def _newcomer(self) -> Sequence | None:
        """Who comes in next, if it is its tenant's first."""
        rows = self._rows()
        taker = self._next_taker(rows)
        is_first = taker is not None and not rows[taker.tenant] and not taker.has_emitted
        return taker if is_first else None

    def _admit_newcomers(self, batch: Batch, max_tokens: int) -> bool:
        """Let those in whose whole prompts fit into the step, and no other prompts beside them."""
        max_tokens = min(max_tokens, self._max_batch_tokens)
        while (newcomer := self._newcomer()) is not None:
            if batch.num_tokens + newcomer.num_tokens > max_tokens:
                break
            if (admitted := self._admit(newcomer)) is None:
                break
            self._schedule_chunk(batch, admitted, self.spare_tokens(batch))
        return bool(batch.prefills)

    def _share_prefills(self, batch: Batch, budget: int) -> None:
        """Admit by the tenants' rows, and divide the step's tokens among their prompts."""
        left = budget
        rows = self._rows()
        entered = set()
        while left > 0 and (sequence := self._admit(self._next_taker(rows))) is not None:
            rows[sequence.tenant] += 1
            left -= sequence.num_uncomputed_tokens
            entered.add(sequence)
        prompts = [
            sequence
            for sequence in self._running.values()
            if (sequence in entered or sequence.num_uncomputed_tokens > 1)
            and not sequence.is_stopped
        ]
        demands: Counter[str] = Counter()
        for sequence in prompts:
            demands[sequence.tenant] += sequence.num_uncomputed_tokens
        parts = divide(budget, demands, {s.tenant: s.weight for s in prompts})
        for sequence in prompts:
            if part := parts[sequence.tenant]:
                parts[sequence.tenant] = self._schedule_chunk(batch, sequence, part)

    def _start(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence.sequence_id)
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
