"""What becomes of the tokens that a step has drawn."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from miao_worker.engine.batch import Batch, ModelRunner, Prefill, Proposal
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.guidance.guidance import guide_fault
from miao_worker.engine.guidance.guide import GuideError
from miao_worker.engine.sampler import Drawn, SampledToken
from miao_worker.engine.scheduler import Scheduler
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.speculation.speculator import Speculator
from miao_worker.engine.speculation.verification import valid_samples
from miao_worker.engine.types import FinishReason, SequenceOutput, TokenLogprobs

_NOT_FINITE = "the model's output was not finite"


@dataclass(frozen=True, slots=True)
class _Row:
    """What was drawn in a row of a step."""

    drawn: Drawn | None
    row: int
    sample: SampledToken

    @property
    def token_id(self) -> int | None:
        return self.sample.token_id

    def chosen(self, sequence: Sequence) -> SampledToken:
        """What the sequence says: what was drawn, or what completes its form in time."""
        token_id = self.sample.token_id
        if token_id is None or sequence.guide is None or self.drawn is None:
            return self.sample
        wanted = sequence.guide.choose(token_id)
        if wanted == token_id:
            return self.sample
        return self.drawn.replaced(self.row, self.sample, wanted)


class Acceptance:
    """Takes drawn tokens into their sequences, and lets those go that have ended."""

    def __init__(
        self,
        runner: ModelRunner,
        blocks: BlockManager,
        scheduler: Scheduler,
        speculator: Speculator | None,
    ) -> None:
        self._runner = runner
        self._blocks = blocks
        self._scheduler = scheduler
        self._speculator = speculator
        self._max_model_length = runner.max_model_length

    def accept_all(
        self, batch: Batch, samples: list[SampledToken], drawn: Drawn | None
    ) -> list[SequenceOutput]:
        """What a step brought: `samples` are those of its rows, in their order, of `drawn`."""
        if not batch.proposals:
            rows = [_Row(drawn, row, sample) for row, sample in enumerate(samples)]
            pairs = zip(batch.sampled, rows, strict=True)
            return [output for q, r in pairs if (output := self._accept(q, r)) is not None]
        outputs, first = [], 0
        for sequence, proposal in batch.yielding:
            end = first + 1 + len(proposal)
            rows = [_Row(drawn, row, samples[row]) for row in range(first, end)]
            outputs.append(self._accept_verified(sequence, proposal, rows))
            first = end
        return outputs

    def accept_scores(
        self, scores: Items[tuple[Prefill, tuple[TokenLogprobs, ...] | None]]
    ) -> list[SequenceOutput]:
        """Report prompt tokens that were scored; None where a score is not a number."""
        outputs = [self._accept_scores(prefill, found) for prefill, found in scores]
        return [output for output in outputs if output is not None]

    def _accept_scores(
        self, prefill: Prefill, scores: tuple[TokenLogprobs, ...] | None
    ) -> SequenceOutput | None:
        sequence = prefill.sequence
        if scores is None:
            return self._fail(sequence, _NOT_FINITE)
        if sequence.has_ended:
            return None
        is_first = not sequence.has_emitted
        sequence.has_emitted = True
        is_all = prefill.scored.stop + 1 >= sequence.scored_end
        ends = is_all and sequence.is_only_scored
        if ends:
            self.retire(sequence)
        return SequenceOutput(
            sequence.sequence_id,
            prompt_logprobs=scores,
            finish_reason=FinishReason.LENGTH if ends else None,
            num_cached_tokens=sequence.num_cached_tokens if is_first else None,
        )

    def _accept(self, sequence: Sequence, row: _Row) -> SequenceOutput | None:
        """Take a row's token; None where the sequence had ended before it was drawn."""
        if sequence.has_ended and row.sample.token_id is not None:
            return None
        sample = row.chosen(sequence)
        fault = _learn(sequence, sample)
        if fault is not None:
            return self._fail(sequence, fault)
        if sequence.num_in_flight or sequence.is_stopped:  # blocks that a pending token has filled
            self._blocks.publish(sequence, sequence.num_computed_tokens)
        reason = sequence.finish_reason(self._max_model_length)
        if reason is not None:
            self.retire(sequence)
        return _output(sequence, (sample,), reason)

    def _accept_verified(
        self, sequence: Sequence, proposal: Proposal, rows: Items[_Row]
    ) -> SequenceOutput:
        taken: list[SampledToken] = []
        reason: FinishReason | None = None
        for row in valid_samples(proposal, rows):
            sample = row.chosen(sequence)
            fault = _learn(sequence, sample)
            if fault is not None:
                self._fail(sequence, fault)
                return _output(sequence, taken, FinishReason.ERROR, fault)
            taken.append(sample)
            reason = sequence.finish_reason(self._max_model_length)
            if reason is not None or sample.token_id != row.token_id:
                break
        if proposal:
            self._settle(sequence, len(taken) - 1, [row.sample for row in rows[len(taken) :]])
        if reason is not None:
            self.retire(sequence)
        return _output(sequence, taken, reason)

    def _settle(self, sequence: Sequence, num_accepted: int, refused: Items[SampledToken]) -> None:
        """Count what was accepted of a proposal as computed, and let go of the rest."""
        assert self._speculator is not None
        num_proposed = num_accepted + len(refused)
        self._speculator.note_verified(sequence, num_proposed, num_accepted)
        sequence.num_computed_tokens += num_accepted
        if any(sample.token_id is None for sample in refused):
            # Later queries of the sequence, or of who holds the block next, would meet it.
            self._runner.erase(self._blocks.rewind(sequence))
        self._scheduler.settle(sequence)

    def _fail(self, sequence: Sequence, fault: str) -> SequenceOutput | None:
        """End one sequence, and keep what it computed away from the others."""
        self._runner.erase(self._blocks.withdraw(sequence))
        if sequence.has_ended:
            return None
        self.retire(sequence)
        return _output(sequence, (), FinishReason.ERROR, fault)

    def retire(self, sequence: Sequence) -> None:
        """Schedule no more of a sequence, and let it go when no step computes it."""
        sequence.forget_pending()
        sequence.is_stopped = sequence.has_ended = True
        self.leave([sequence])

    def leave(self, sequences: Items[Sequence]) -> None:
        """Let those go that have ended and that no step computes."""
        for sequence in sequences:
            if sequence.has_ended and not sequence.num_in_flight:
                self._scheduler.remove(sequence.sequence_id)


def _learn(sequence: Sequence, sample: SampledToken) -> str | None:
    """Add what was drawn; why it cannot be, where it cannot."""
    if sample.token_id is None:
        return guide_fault(sequence) or _NOT_FINITE
    try:
        sequence.learn(sample.token_id)
    except GuideError as error:
        return guide_fault(sequence) or str(error)
    return None


def _output(
    sequence: Sequence,
    taken: Items[SampledToken],
    reason: FinishReason | None,
    error: str | None = None,
) -> SequenceOutput:
    """What the tokens of a step are reported as."""
    is_first = False
    if taken and not sequence.has_emitted:
        is_first = sequence.has_emitted = True
    token_ids = [sample.token_id for sample in taken if sample.token_id is not None]
    logprobs = [sample.logprobs for sample in taken if sample.logprobs is not None]
    return SequenceOutput(
        sequence_id=sequence.sequence_id,
        token_ids=tuple(token_ids),
        logprobs=tuple(logprobs) or None,
        finish_reason=reason,
        error=error,
        num_cached_tokens=sequence.num_cached_tokens if is_first else None,
    )
