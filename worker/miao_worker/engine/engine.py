"""Continuous batching: sequences in, a token or more for each in every step.

Knows token ids alone: no text, no tokenizer, no queue, no network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items

from miao_worker.engine.batch import Batch, ModelRunner, Proposal
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.model_runner import load_runners
from miao_worker.engine.request_checks import request_fault
from miao_worker.engine.sampler import SampledToken, Sampler
from miao_worker.engine.scheduler import Scheduler
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.speculation.methods import make_proposer
from miao_worker.engine.speculation.proposer import Proposer
from miao_worker.engine.speculation.speculator import Speculator
from miao_worker.engine.speculation.verification import valid_samples
from miao_worker.engine.types import (
    EngineStats,
    FinishReason,
    SequenceOutput,
    SequenceRequest,
    StepOutput,
)

_NOT_FINITE = "the model's output was not finite"


class Engine:
    """Runs the sequences that were added until each has finished or is cancelled.

    Every sequence ends in exactly one output with a finish reason, unless it is
    cancelled. Not thread-safe. After an exception from `step` the engine's state
    is lost: build another and add the sequences again with the tokens they have.
    """

    def __init__(
        self,
        config: EngineConfig,
        runner: ModelRunner | None = None,
        proposer: Proposer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Load the model, unless a runner is given; raises ModelLoadError.

        proposer: what speculation tries; None takes the one that `config` asks for.
        clock: counts seconds; speculation weighs the cost of steps by it.
        """
        draft_runner: ModelRunner | None = None
        if runner is None:
            runner, draft_runner = load_runners(config)
        self._runner = runner
        self._block_size = config.block_size
        self._quantize = config.quantize
        self._blocks = BlockManager(self._runner.num_blocks, config.block_size, config.prefix_cache)
        self._scheduler = Scheduler(self._blocks, config.max_sequences, config.max_batch_tokens)
        self._sampler = Sampler()
        self._clock = clock
        proposer = proposer or make_proposer(config, draft_runner, runner.vocab_size)
        self._speculator = None if proposer is None else self._make_speculator(config, proposer)
        self._ended_early: list[SequenceOutput] = []  # ended without a step; reported in the next
        self._num_steps = 0

    @property
    def max_model_length(self) -> int:
        """Tokens of prompt and output together that one sequence may have."""
        return self._runner.max_model_length

    @property
    def vocab_size(self) -> int:
        return self._runner.vocab_size

    @property
    def num_blocks(self) -> int:
        return self._runner.num_blocks

    @property
    def block_size(self) -> int:
        """Tokens in a block."""
        return self._block_size

    @property
    def token_capacity(self) -> int:
        """Tokens whose keys and values the pool holds, all sequences together."""
        return self._runner.num_blocks * self._block_size

    @property
    def dtype(self) -> str:
        """What the model computes in, such as "bfloat16" or "int8"."""
        return self._quantize or str(self._runner.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        return str(self._runner.device)

    @property
    def has_unfinished(self) -> bool:
        """Whether another step has anything to do or to report."""
        return self._scheduler.has_unfinished or bool(self._ended_early)

    def add(self, request: SequenceRequest) -> None:
        """Queue a sequence. One that cannot run ends with ERROR in the next step.

        Raises ValueError for an id that is already here.
        """
        if request.sequence_id in self._scheduler:
            raise ValueError(f"sequence {request.sequence_id} is already in the engine")
        fault = request_fault(request, self.vocab_size, self.max_model_length)
        if fault is not None:
            self._end_early(request.sequence_id, FinishReason.ERROR, fault)
            return
        sequence = Sequence.from_request(request)
        reason = sequence.finish_reason(self.max_model_length)
        if reason is not None:  # resumed after its last token
            self._end_early(request.sequence_id, reason)
        else:
            self._scheduler.add(sequence)

    def cancel(self, sequence_id: str) -> None:
        """Take a sequence out and free its blocks; nothing more is reported of it."""
        self._scheduler.remove(sequence_id)
        self._ended_early = [o for o in self._ended_early if o.sequence_id != sequence_id]

    def step(self) -> StepOutput:
        """Advance every scheduled sequence; returns what each of them brought."""
        outputs, self._ended_early = self._ended_early, []
        started = self._clock()
        batch = self._scheduler.schedule()
        if batch:
            self._speculate(batch)
            logits = self._runner.run(batch)
            samples = self._sampler.sample(logits, batch.sampled, batch.proposed_before)
            batch.mark_computed()
            brought = self._accept_all(batch, samples)
            self._learn(batch, brought, self._clock() - started)
            outputs += brought
            self._num_steps += 1
        return StepOutput(outputs=tuple(outputs), stats=self._stats())

    def _make_speculator(self, config: EngineConfig, proposer: Proposer) -> Speculator:
        return Speculator(
            proposer, config.num_speculative_tokens, self.max_model_length, self._clock
        )

    def _speculate(self, batch: Batch) -> None:
        if self._speculator is None:
            return
        proposals = self._speculator.propose(batch, self._scheduler.spare_tokens(batch))
        if proposals:
            self._scheduler.speculate(batch, proposals)

    def _learn(self, batch: Batch, brought: list[SequenceOutput], seconds: float) -> None:
        if self._speculator is not None:
            num_tokens = sum(len(output.token_ids) for output in brought)
            self._speculator.note_step(batch, num_tokens, seconds)

    def _accept_all(self, batch: Batch, samples: list[SampledToken]) -> list[SequenceOutput]:
        if not batch.proposals:
            return [self._accept(q, s) for q, s in zip(batch.sampled, samples, strict=True)]
        outputs, row = [], 0
        for sequence, proposal in batch.yielding:
            drawn = samples[row : row + 1 + len(proposal)]
            row += len(drawn)
            outputs.append(self._accept_verified(sequence, proposal, drawn))
        return outputs

    def _accept(self, sequence: Sequence, sample: SampledToken) -> SequenceOutput:
        if sample.token_id is None:
            self._discard(sequence)
            return _output(sequence, (), FinishReason.ERROR, _NOT_FINITE)
        sequence.token_ids.append(sample.token_id)
        reason = sequence.finish_reason(self.max_model_length)
        if reason is not None:
            self._scheduler.remove(sequence.sequence_id)
        return _output(sequence, (sample,), reason)

    def _accept_verified(
        self, sequence: Sequence, proposal: Proposal, drawn: Items[SampledToken]
    ) -> SequenceOutput:
        taken: list[SampledToken] = []
        reason: FinishReason | None = None
        for sample in valid_samples(proposal, drawn):
            if sample.token_id is None:
                self._discard(sequence)
                return _output(sequence, taken, FinishReason.ERROR, _NOT_FINITE)
            sequence.token_ids.append(sample.token_id)
            taken.append(sample)
            reason = sequence.finish_reason(self.max_model_length)
            if reason is not None:
                break
        if proposal:
            self._settle(sequence, len(taken) - 1, drawn[len(taken) :])
        if reason is not None:
            self._scheduler.remove(sequence.sequence_id)
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

    def _discard(self, sequence: Sequence) -> None:
        """End one sequence and keep what it computed away from the others."""
        self._runner.erase(self._blocks.withdraw(sequence))
        self._scheduler.remove(sequence.sequence_id)

    def _end_early(self, sequence_id: str, reason: FinishReason, error: str | None = None) -> None:
        output = SequenceOutput(sequence_id, finish_reason=reason, error=error)
        self._ended_early.append(output)

    def _stats(self) -> EngineStats:
        speculator = self._speculator
        return EngineStats(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting,
            num_blocks=self.num_blocks,
            num_free_blocks=self._blocks.num_free_blocks,
            num_preemptions=self._scheduler.num_preemptions,
            num_steps=self._num_steps,
            num_proposed_tokens=speculator.num_proposed_tokens if speculator else 0,
            num_accepted_tokens=speculator.num_accepted_tokens if speculator else 0,
        )


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
