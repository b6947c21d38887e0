"""vLLM behind the worker's boundary.

    vLLM's:  the batch, chunked prefill, the cache and its sharing, the model's computation,
             preemption, log-probabilities
    ours:    how a token is drawn (drawing.py), when a sequence ends, what a resumed one is

A resumed sequence is a request whose prompt is prompt and output so far.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.inputs.engine import tokens_input
from vllm.sampling_params import RequestOutputKind
from vllm.sampling_params import SamplingParams as VllmParams

from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.errors import AdapterError
from miao_worker.engine.guidance.guidance import Guidance, guide_fault
from miao_worker.engine.guidance.guide import GuideError
from miao_worker.engine.request_checks import request_fault
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import (
    EngineStats,
    FinishReason,
    SequenceOutput,
    SequenceRequest,
    StepOutput,
    TokenLogprobs,
)
from miao_worker.vllm_engine.drawing import KEY, Draw

_NO_ADAPTERS = "the engine vllm serves no adapters here; serve them with --engine miao"
_NO_GRAMMARS = "this model's output cannot follow a grammar"
_NO_ROOM = "the engine vllm scores prompts of at most {} tokens, one fewer than its context"
_MOST_KEPT = 1000  # sequences, of which it is known how often they gave way
_NOT_FINITE = "the model's output was not finite"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A sequence that vLLM has."""

    sequence: Sequence
    draw: Draw | None

    @property
    def is_only_scored(self) -> bool:
        return self.sequence.is_only_scored and not self.sequence.wants_scores


class VllmEngine:
    """Runs the sequences that were added until each has finished or is cancelled.

    As `engine.protocol.ServingEngine` says. vLLM's core runs in this process.
    """

    def __init__(self, llm: Any) -> None:
        """`llm`: an LLMEngine, loaded as in `loading`."""
        self._llm = llm
        self._scheduler = llm.engine_core.engine_core.scheduler
        self._pool = self._scheduler.kv_cache_manager.block_pool
        config = llm.vllm_config
        self.vocab_size: int = config.model_config.get_vocab_size()
        self.max_model_length: int = config.model_config.max_model_len
        self.dtype = str(config.model_config.dtype).removeprefix("torch.")
        self.token_capacity: int = self._num_blocks * config.cache_config.block_size
        self.is_one_process: bool = config.parallel_config.world_size == 1
        self._running: dict[str, _Running] = {}
        self._guidance: Guidance | None = None
        self._ended_early: list[SequenceOutput] = []  # ended without a step; reported in the next
        self._preemptions: dict[str, int] = {}  # of a sequence, by vLLM's id
        self._num_preemptions = 0
        self._num_steps = 0

    @property
    def has_unfinished(self) -> bool:
        """Whether another step has anything to do or to report."""
        is_preparing = self._guidance is not None and self._guidance.is_preparing
        return bool(self._running or self._ended_early) or is_preparing

    def follow_grammars(self, tokenizer_json: str, eos_token_ids: Iterable[int]) -> None:
        """Let sequences have grammars, which are of the bytes of this tokenizer's tokens.

        Raises VocabularyError where the tokenizer cannot be used for that.
        """
        self._guidance = Guidance.of(tokenizer_json, self.vocab_size, list(eos_token_ids))

    def register_adapter(self, adapter_id: str, folder: Path) -> None:
        """Raises AdapterError."""
        raise AdapterError(_NO_ADAPTERS)

    def drop_adapter(self, adapter_id: str) -> None:
        """Nothing: there are none."""

    def add(self, request: EngineRequest) -> None:
        """Queue a sequence. One that cannot run ends with ERROR in the next step.

        Raises ValueError for an id that is already here.
        """
        is_preparing = self._guidance is not None and request.sequence_id in self._guidance
        if request.sequence_id in self._running or is_preparing:
            raise ValueError(f"sequence {request.sequence_id} is already in the engine")
        if not isinstance(request, SequenceRequest):
            self._refuse(request.sequence_id, "the model only generates")
            return
        fault = request_fault(request, self.vocab_size, self.max_model_length)
        fault = fault or self._fault(request)
        if fault is not None:
            self._refuse(request.sequence_id, fault)
            return
        sequence = Sequence.from_request(request)
        if request.grammar is None:
            self._start(sequence)
        else:
            assert self._guidance is not None
            self._guidance.prepare(sequence, request.grammar, self.max_model_length)

    def cancel(self, sequence_id: str) -> None:
        """Take a sequence out and free its blocks; nothing more is reported of it."""
        if self._running.pop(sequence_id, None) is not None:
            self._llm.abort_request([sequence_id])
        if self._guidance is not None:
            self._guidance.forget(sequence_id)
        self._ended_early = [o for o in self._ended_early if o.sequence_id != sequence_id]

    def step(self) -> StepOutput:
        """Advance what vLLM has scheduled; returns what each sequence brought."""
        self._start_prepared()
        outputs, self._ended_early = self._ended_early, []
        if self._running:
            for brought in self._llm.step():
                output = self._take(brought)
                if output is not None:
                    outputs.append(output)
            self._num_steps += 1
        return StepOutput(tuple(outputs), self._stats())

    def _fault(self, request: SequenceRequest) -> str | None:
        """Why vLLM cannot run a request that an engine of ours could."""
        if request.adapter is not None:
            return _NO_ADAPTERS
        if request.grammar is not None and (self._guidance is None or not self.is_one_process):
            return _NO_GRAMMARS
        if not request.sampling.max_tokens:
            most = self.max_model_length - 1
            if len(request.prompt_token_ids) > most:
                return _NO_ROOM.format(most)
        return None

    def _start_prepared(self) -> None:
        if self._guidance is None or not self._guidance.is_preparing:
            return
        is_idle = not (self._running or self._ended_early)
        for sequence, fault in self._guidance.prepared(is_idle=is_idle):
            if fault is None:
                self._start(sequence)
            else:
                self._refuse(sequence.sequence_id, fault)

    def _start(self, sequence: Sequence) -> None:
        reason = sequence.finish_reason(self.max_model_length)
        if reason is not None:  # resumed after its last token
            output = SequenceOutput(sequence.sequence_id, finish_reason=reason)
            self._ended_early.append(output)
            return
        draw = Draw.of(sequence, self._guidance)
        prompt = tokens_input(
            list(sequence.token_ids), cache_salt=sequence.cache_scope.hex() or None
        )
        try:
            self._llm.add_request(
                sequence.sequence_id, prompt, _params(sequence, draw, self.vocab_size)
            )
        except ValueError as error:  # its words may hold the request's
            field = getattr(error, "parameter", None) or "the request"
            _log.warning("vLLM refuses %s (%s)", field, type(error).__name__)
            self._refuse(sequence.sequence_id, f"the engine vllm does not take {field}")
            return
        self._running[sequence.sequence_id] = _Running(sequence, draw)

    def _refuse(self, sequence_id: str, fault: str) -> None:
        output = SequenceOutput(sequence_id, finish_reason=FinishReason.ERROR, error=fault)
        self._ended_early.append(output)

    def _take(self, brought: Any) -> SequenceOutput | None:
        """What vLLM brought for a sequence; None where that has left, or got nothing yet."""
        running = self._running.get(brought.request_id)
        if running is None:
            return None
        sequence = running.sequence
        scores = _scores(sequence, brought.prompt_logprobs)
        if running.is_only_scored:
            return self._end(running, FinishReason.LENGTH, scores=scores)
        said = brought.outputs[0]
        for token_id in said.token_ids:
            fault = _learn(running, token_id)
            if fault is not None:
                return self._end(running, FinishReason.ERROR, error=fault)
        reason = sequence.finish_reason(self.max_model_length)
        if reason is None and brought.finished:
            fault = f"vLLM has ended the sequence by itself ({said.finish_reason})"
            return self._end(running, FinishReason.ERROR, error=fault)
        if not (said.token_ids or scores or reason):
            return None
        output = self._output(sequence, said, brought.num_cached_tokens, scores, reason)
        if reason is not None:
            self._leave(sequence.sequence_id, has_finished=brought.finished)
        return output

    def _output(
        self,
        sequence: Sequence,
        said: Any,
        num_cached_tokens: int | None,
        scores: tuple[TokenLogprobs, ...],
        reason: FinishReason | None,
    ) -> SequenceOutput:
        is_first = bool(said.token_ids) and not sequence.has_emitted
        sequence.has_emitted |= is_first
        count = sequence.sampling.num_logprobs
        return SequenceOutput(
            sequence.sequence_id,
            tuple(said.token_ids),
            logprobs=None if count is None else _logprobs(said.token_ids, said.logprobs, count),
            finish_reason=reason,
            num_cached_tokens=_cached(sequence, num_cached_tokens) if is_first else None,
            prompt_logprobs=scores,
        )

    def _end(
        self,
        running: _Running,
        reason: FinishReason,
        error: str | None = None,
        scores: tuple[TokenLogprobs, ...] = (),
    ) -> SequenceOutput:
        sequence_id = running.sequence.sequence_id
        self._leave(sequence_id, has_finished=False)
        return SequenceOutput(
            sequence_id, finish_reason=reason, error=error, prompt_logprobs=scores
        )

    def _leave(self, sequence_id: str, *, has_finished: bool) -> None:
        del self._running[sequence_id]
        if not has_finished:
            self._llm.abort_request([sequence_id])

    @property
    def _num_blocks(self) -> int:
        return int(self._pool.num_gpu_blocks) - 1  # the first is vLLM's own

    def _stats(self) -> EngineStats:
        waiting = list(self._scheduler.waiting)
        for request in waiting:
            before = self._preemptions.get(request.request_id, 0)
            if request.num_preemptions > before:
                self._preemptions[request.request_id] = request.num_preemptions
                self._num_preemptions += request.num_preemptions - before
        if len(self._preemptions) > _MOST_KEPT:
            here = self._scheduler.requests
            self._preemptions = {i: n for i, n in self._preemptions.items() if i in here}
        return EngineStats(
            num_running=len(self._scheduler.running),
            num_waiting=len(waiting),
            num_blocks=self._num_blocks,
            num_free_blocks=self._pool.get_num_free_blocks(),
            num_preemptions=self._num_preemptions,
            num_steps=self._num_steps,
        )


def _params(sequence: Sequence, draw: Draw | None, vocab_size: int) -> VllmParams:
    """Greedy to vLLM: where a token is drawn, `Drawing` leaves no choice."""
    sampling = sequence.sampling
    return VllmParams(
        temperature=0.0,
        max_tokens=max(1, sampling.max_tokens - sequence.num_output_tokens),
        stop_token_ids=sorted(i for i in sampling.stop_token_ids if i < vocab_size),
        ignore_eos=True,  # the model's own ends are among the stop tokens, where they count
        logprobs=sampling.num_logprobs,
        prompt_logprobs=sampling.num_prompt_logprobs,
        extra_args=None if draw is None else {KEY: draw},
        output_kind=RequestOutputKind.DELTA,
        detokenize=False,
        skip_clone=True,
    )


def _learn(running: _Running, token_id: int) -> str | None:
    """Add a token to its sequence; why it cannot be, where it cannot."""
    sequence = running.sequence
    if running.draw is not None and running.draw.has_failed:
        return guide_fault(sequence) or _NOT_FINITE
    try:
        sequence.learn(token_id)
    except GuideError as error:
        return guide_fault(sequence) or str(error)
    return None


def _cached(sequence: Sequence, num_tokens: int | None) -> int:
    """Of the prompt's tokens; what was said before is none of them."""
    return min(num_tokens or 0, sequence.num_prompt_tokens)


def _scores(sequence: Sequence, brought: Any) -> tuple[TokenLogprobs, ...]:
    """The log-probabilities of the prompt tokens that are asked for; vLLM brings all, once."""
    if not brought or not sequence.wants_scores:
        return ()
    places = range(sequence.next_scored, sequence.scored_end)
    sequence.next_scored = sequence.scored_end
    count = sequence.sampling.num_prompt_logprobs or 0
    return tuple(_entry(brought[i], sequence.token_ids[i], count) for i in places)


def _logprobs(token_ids: Iterable[int], brought: Any, count: int) -> tuple[TokenLogprobs, ...]:
    pairs = zip(token_ids, brought, strict=True)
    return tuple(_entry(entries, token_id, count) for token_id, entries in pairs)


def _entry(entries: Any, token_id: int, count: int) -> TokenLogprobs:
    """Of vLLM's table: the token's own, and the likeliest."""
    likeliest = sorted(entries.items(), key=lambda item: item[1].rank)[:count]
    top = tuple((other, entry.logprob) for other, entry in likeliest)
    return TokenLogprobs(entries[token_id].logprob, top)
