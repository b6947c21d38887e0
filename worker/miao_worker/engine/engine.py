"""Continuous batching: sequences in, a token or more for each in every step.

Knows token ids alone: no text, no tokenizer, no queue, no network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from pathlib import Path

from transformers import PreTrainedModel

from miao_worker.engine.acceptance import Acceptance
from miao_worker.engine.adapters.store import AdapterStore
from miao_worker.engine.batch import Batch, ModelRunner
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.carried import Carried
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.errors import AdapterError
from miao_worker.engine.flight import Flight
from miao_worker.engine.guidance.guidance import Guidance, allowed_proposals
from miao_worker.engine.model_runner import load_runners
from miao_worker.engine.prompt_scores import PromptScores, max_scored_tokens
from miao_worker.engine.request_checks import request_fault
from miao_worker.engine.sampler import Drawn, Sampler
from miao_worker.engine.scheduler import Scheduler
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.speculation.methods import make_proposer
from miao_worker.engine.speculation.proposer import Proposer
from miao_worker.engine.speculation.speculator import Speculator
from miao_worker.engine.types import (
    EngineStats,
    FinishReason,
    SequenceOutput,
    SequenceRequest,
    StepOutput,
)

_NO_GRAMMARS = "this model's output cannot follow a grammar"


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
        self._adapters: AdapterStore | None = getattr(runner, "adapters", None)
        self._scheduler = Scheduler(
            self._blocks,
            config.max_sequences,
            config.max_batch_tokens,
            max_scored_tokens(runner.vocab_size),
            self._adapters,
            decodes_cost=self._runner.device.type == "cpu",
        )
        self._sampler = Sampler()
        self._clock = clock
        proposer = proposer or make_proposer(config, draft_runner, runner.vocab_size)
        self._speculator = None if proposer is None else self._make_speculator(config, proposer)
        self._acceptance = Acceptance(runner, self._blocks, self._scheduler, self._speculator)
        self._overlaps = self._may_overlap(config)
        self._in_flight: Flight | None = None
        self._guidance: Guidance | None = None
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
    def original_model(self) -> PreTrainedModel | None:
        """The model as transformers has it, where it is that which computes."""
        model: PreTrainedModel | None = getattr(self._runner, "original_model", None)
        return model

    @property
    def has_unfinished(self) -> bool:
        """Whether another step has anything to do or to report."""
        is_preparing = self._guidance is not None and self._guidance.is_preparing
        return self._scheduler.has_unfinished or is_preparing or bool(self._ended_early)

    def follow_grammars(self, tokenizer_json: str, eos_token_ids: Items[int]) -> None:
        """Let sequences have grammars, which are of the bytes of this tokenizer's tokens.

        Raises VocabularyError where the tokenizer cannot be used for that.
        """
        self._guidance = Guidance.of(tokenizer_json, self.vocab_size, eos_token_ids)

    def register_adapter(self, adapter_id: str, folder: Path) -> None:
        """Learn of an adapter, which requests may name then.

        Raises AdapterError where it cannot be served over this model.
        """
        if self._adapters is None:
            raise AdapterError("adapters are not enabled here; set max_adapters")
        self._adapters.register(adapter_id, folder)

    def drop_adapter(self, adapter_id: str) -> None:
        """Let go of an adapter's memory once nothing that runs uses it."""
        if self._adapters is not None:
            self._adapters.drop(adapter_id)

    def add(self, request: EngineRequest) -> None:
        """Queue a sequence. One that cannot run ends with ERROR in the next step.

        Raises ValueError for an id that is already here.
        """
        if request.sequence_id in self._scheduler or self._prepares(request.sequence_id):
            raise ValueError(f"sequence {request.sequence_id} is already in the engine")
        if not isinstance(request, SequenceRequest):
            self._end_early(request.sequence_id, FinishReason.ERROR, "the model only generates")
            return
        fault = request_fault(request, self.vocab_size, self.max_model_length)
        fault = fault or self._adapter_fault(request.adapter)
        if fault is not None:
            self._end_early(request.sequence_id, FinishReason.ERROR, fault)
            return
        sequence = Sequence.from_request(request)
        if request.grammar is None:
            self._start(sequence)
        elif self._guidance is None:
            self._end_early(request.sequence_id, FinishReason.ERROR, _NO_GRAMMARS)
        else:
            self._guidance.prepare(sequence, request.grammar, self.max_model_length)

    def cancel(self, sequence_id: str) -> None:
        """Take a sequence out and free its blocks; nothing more is reported of it.

        While a step computes it, its blocks are kept until that step is done.
        """
        sequence = self._scheduler.get(sequence_id)
        if sequence is not None:
            self._acceptance.retire(sequence)
        if self._guidance is not None:
            self._guidance.forget(sequence_id)
        self._ended_early = [o for o in self._ended_early if o.sequence_id != sequence_id]

    def step(self) -> StepOutput:
        """Advance every scheduled sequence; returns what each of them brought.

        Where steps overlap: what the step before has drawn while this one was scheduled.
        """
        self._start_prepared()
        outputs, self._ended_early = self._ended_early, []
        if self._in_flight is not None and self._must_land():
            outputs += self._land()
        launched = self._launch(self._scheduler.schedule())
        for sequence, error in self._scheduler.take_refused():
            self._end_early(sequence.sequence_id, FinishReason.ERROR, str(error))
        outputs += self._land()
        self._in_flight = launched
        if not self._overlaps:
            outputs += self._land()
        elif launched is not None:
            launched.expect(self.max_model_length)
        return StepOutput(outputs=tuple(outputs), stats=self._stats())

    def _prepares(self, sequence_id: str) -> bool:
        return self._guidance is not None and sequence_id in self._guidance

    def _start_prepared(self) -> None:
        if self._guidance is None or not self._guidance.is_preparing:
            return
        is_idle = not (self._scheduler.has_unfinished or self._ended_early)
        for sequence, fault in self._guidance.prepared(is_idle=is_idle):
            if fault is None:
                self._start(sequence)
            else:
                self._end_early(sequence.sequence_id, FinishReason.ERROR, fault)

    def _start(self, sequence: Sequence) -> None:
        reason = sequence.finish_reason(self.max_model_length)
        if reason is not None:  # resumed after its last token
            self._end_early(sequence.sequence_id, reason)
        else:
            self._scheduler.add(sequence)

    def _may_overlap(self, config: EngineConfig) -> bool:
        """What speculation proposes follows from the tokens themselves, so there it rests."""
        wanted = self._runner.device.type == "cuda" if config.overlap is None else config.overlap
        return wanted and self._speculator is None

    def _must_land(self) -> bool:
        """Whether the next step cannot be scheduled before the tokens in flight are known.

        Either drawing needs them, or blocks are so few that a sequence may have to give
        its own back, which should be one that nothing is in flight of.
        """
        assert self._in_flight is not None
        return self._in_flight.is_awaited or self._scheduler.may_preempt

    def _launch(self, batch: Batch) -> Flight | None:
        """Hand a step to the device; None where there is nothing to compute."""
        if not batch:
            return None
        started = self._clock()
        self._speculate(batch)
        if self._in_flight is not None and self._in_flight.drawn is not None:
            batch.carried = Carried.of(batch.decodes, self._in_flight.drawn.token_ids)
        drawn, scores = self._compute(batch)
        batch.mark_computed()
        self._num_steps += 1
        flight = Flight(batch, drawn, scores, started)
        if self._overlaps:
            flight.begin()
        return flight

    def _compute(self, batch: Batch) -> tuple[Drawn | None, PromptScores | None]:
        """Run the model, begin to draw tokens and to score prompts; None where there are none.

        What grammars allow is found meanwhile.
        """
        sampled, before = batch.sampled, batch.proposed_before
        masks = None if self._guidance is None else self._guidance.find_masks(sampled, before)
        try:
            logits, drawn = self._runner.run(batch), None
            if sampled:
                drawn = self._sampler.launch(logits[: len(sampled)], sampled, before, masks)
            return drawn, PromptScores.of(logits[len(sampled) :], batch.scored)
        finally:
            if masks is not None:
                masks.wait()

    def _land(self) -> list[SequenceOutput]:
        """Wait for the step in flight; what it brought to those who have not ended meanwhile."""
        flight, self._in_flight = self._in_flight, None
        if flight is None:
            return []
        samples = flight.drawn.collect() if flight.drawn is not None else []
        if self._overlaps:
            flight.end()
        scores = flight.scores.collect() if flight.scores is not None else []
        brought = self._acceptance.accept_scores(scores)
        brought += self._acceptance.accept_all(flight.batch, samples, flight.drawn)
        if self._overlaps:
            self._acceptance.leave(flight.batch.sequences)
        self._learn(flight.batch, brought, self._clock() - flight.started)
        return brought

    def _adapter_fault(self, adapter_id: str | None) -> str | None:
        if adapter_id is None or (self._adapters and self._adapters.knows(adapter_id)):
            return None
        return "the adapter is not served here any more"

    def _make_speculator(self, config: EngineConfig, proposer: Proposer) -> Speculator:
        return Speculator(
            proposer, config.num_speculative_tokens, self.max_model_length, self._clock
        )

    def _speculate(self, batch: Batch) -> None:
        if self._speculator is None:
            return
        proposals = self._speculator.propose(batch, self._scheduler.spare_tokens(batch))
        if proposals:
            proposals = allowed_proposals(batch.decodes, proposals)
            self._scheduler.speculate(batch, proposals)

    def _learn(self, batch: Batch, brought: list[SequenceOutput], seconds: float) -> None:
        if self._speculator is not None:
            num_tokens = sum(len(output.token_ids) for output in brought)
            self._speculator.note_step(batch, num_tokens, seconds)

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
