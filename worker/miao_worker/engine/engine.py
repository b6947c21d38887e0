"""Continuous batching: sequences in, a token for each in every step.

Knows token ids alone: no text, no tokenizer, no queue, no network.
"""

from __future__ import annotations

from miao_worker.engine.batch import ModelRunner
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.model_runner import load_runner
from miao_worker.engine.request_checks import request_fault
from miao_worker.engine.sampler import SampledToken, Sampler
from miao_worker.engine.scheduler import Scheduler
from miao_worker.engine.sequence import Sequence
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

    def __init__(self, config: EngineConfig, runner: ModelRunner | None = None) -> None:
        """Load the model, unless a runner is given; raises ModelLoadError."""
        self._runner = runner or load_runner(config)
        self._block_size = config.block_size
        self._blocks = BlockManager(self._runner.num_blocks, config.block_size, config.prefix_cache)
        self._scheduler = Scheduler(self._blocks, config.max_sequences, config.max_batch_tokens)
        self._sampler = Sampler()
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
        """What the model computes in, such as "bfloat16"."""
        return str(self._runner.dtype).removeprefix("torch.")

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
        batch = self._scheduler.schedule()
        if batch:
            logits = self._runner.run(batch)
            samples = self._sampler.sample(logits, batch.sampled)
            batch.mark_computed()
            outputs += self._accept_all(batch.sampled, samples)
            self._num_steps += 1
        return StepOutput(outputs=tuple(outputs), stats=self._stats())

    def _accept_all(
        self, sequences: list[Sequence], samples: list[SampledToken]
    ) -> list[SequenceOutput]:
        return [self._accept(q, sample) for q, sample in zip(sequences, samples, strict=True)]

    def _accept(self, sequence: Sequence, sample: SampledToken) -> SequenceOutput:
        if sample.token_id is None:
            return self._fail(sequence, _NOT_FINITE)
        sequence.token_ids.append(sample.token_id)
        reason = sequence.finish_reason(self.max_model_length)
        if reason is not None:
            self._scheduler.remove(sequence.sequence_id)
        is_first, sequence.has_emitted = not sequence.has_emitted, True
        return SequenceOutput(
            sequence_id=sequence.sequence_id,
            token_ids=(sample.token_id,),
            logprobs=None if sample.logprobs is None else (sample.logprobs,),
            finish_reason=reason,
            num_cached_tokens=sequence.num_cached_tokens if is_first else None,
        )

    def _fail(self, sequence: Sequence, error: str) -> SequenceOutput:
        """End one sequence and keep what it computed away from the others."""
        self._runner.erase(self._blocks.withdraw(sequence))
        self._scheduler.remove(sequence.sequence_id)
        return SequenceOutput(sequence.sequence_id, finish_reason=FinishReason.ERROR, error=error)

    def _end_early(self, sequence_id: str, reason: FinishReason, error: str | None = None) -> None:
        output = SequenceOutput(sequence_id, finish_reason=reason, error=error)
        self._ended_early.append(output)

    def _stats(self) -> EngineStats:
        return EngineStats(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting,
            num_blocks=self.num_blocks,
            num_free_blocks=self._blocks.num_free_blocks,
            num_preemptions=self._scheduler.num_preemptions,
            num_steps=self._num_steps,
        )
