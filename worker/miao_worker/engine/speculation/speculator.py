"""Decides who proposes what in a step, and learns from what became of it."""

from __future__ import annotations

from collections.abc import Callable

from miao_worker.engine.batch import Batch, Proposal
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.speculation.economy import Economy
from miao_worker.engine.speculation.pace import Pace
from miao_worker.engine.speculation.proposer import Proposer


class Speculator:
    """Speculative decoding's policy. Knows no logits, and nothing of what is proposed."""

    def __init__(
        self,
        proposer: Proposer,
        num_tokens: int | None,
        max_model_length: int,
        clock: Callable[[], float],
    ) -> None:
        """`num_tokens`: proposed at most for a sequence; None takes the proposer's."""
        self._proposer = proposer
        self._max_tokens = num_tokens or proposer.usual_length
        self._max_model_length = max_model_length
        self._clock = clock
        self._economy = Economy()
        self._proposing_seconds = 0.0  # in this step
        self._debt_seconds = 0.0  # of proposing that nothing came of
        self.num_proposed_tokens = 0
        self.num_accepted_tokens = 0

    def propose(self, batch: Batch, budget: int) -> list[Proposal]:
        """Proposals for the batch's decodes, at most `budget` tokens; [] where there are none."""
        self._proposing_seconds = 0.0
        if not batch.decodes or not self._economy.allows(len(batch.decodes)):
            return []
        lengths = self._lengths(batch.decodes, budget)
        if not any(lengths):
            return []
        started = self._clock()
        proposals = self._proposer.propose(batch.decodes, lengths)
        self._proposing_seconds = self._clock() - started
        return proposals if any(proposals) else []

    def note_verified(self, sequence: Sequence, num_proposed: int, num_accepted: int) -> None:
        """Learn what one sequence accepted of its proposal."""
        self.num_proposed_tokens += num_proposed
        self.num_accepted_tokens += num_accepted
        self._pace(sequence).note(num_proposed, num_accepted)

    def note_step(self, batch: Batch, num_tokens: int, seconds: float) -> None:
        """Learn what a step cost and brought; only of steps that do nothing but decode.

        Proposing is paid for by the next step that has proposals, never by a plain one.
        """
        if not batch.proposals:
            self._debt_seconds += self._proposing_seconds
            seconds -= self._proposing_seconds
        if batch.prefills or not batch.decodes:
            return
        if batch.proposals:
            seconds += self._debt_seconds
            self._debt_seconds = 0.0
            self._economy.note_speculative(len(batch.decodes), num_tokens, seconds)
        else:
            self._economy.note_plain(len(batch.decodes), seconds)

    def _lengths(self, sequences: list[Sequence], budget: int) -> list[int]:
        lengths = []
        for sequence in sequences:
            length = min(self._limit(sequence), budget)
            if length > 0:
                length = min(length, self._pace(sequence).next_length())
            lengths.append(max(length, 0))
            budget -= lengths[-1]
        return lengths

    def _limit(self, sequence: Sequence) -> int:
        """The step brings one token without any proposal; none beyond the sequence's end."""
        end = sequence.num_prompt_tokens + sequence.sampling.max_tokens
        return min(end, self._max_model_length) - len(sequence.token_ids) - 1

    def _pace(self, sequence: Sequence) -> Pace:
        if not isinstance(sequence.pace, Pace):
            sequence.pace = Pace(self._max_tokens)
        return sequence.pace
