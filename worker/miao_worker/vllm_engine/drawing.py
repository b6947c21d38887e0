"""Draws tokens inside vLLM's step, as Miao's own sampler draws them.

vLLM's generators count draws, so they cannot be put at a place in the middle of an answer:
a sampled generation that went on elsewhere would repeat random numbers or skip some. Here a
token's random number depends on (seed, position) alone, a penalty counts the answer's own
tokens wherever they were said, and a grammar is followed from the answer's first token.

A step of vLLM, for the rows that ask for it:

    model ──► logits ──► log-probabilities ──► [Drawing: one token] ──► argmax: that token
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor
from vllm.sampling_params import SamplingParams as VllmParams
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

from miao_worker.engine.guidance.guidance import Guidance
from miao_worker.engine.sampler import SampledToken, Sampler
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams

KEY = "miao"  # of `extra_args`


@dataclass(slots=True)
class Draw:
    """How a sequence's tokens are drawn; goes with its request, to wherever vLLM computes it.

    sequence: as the engine knows it, with the guide that follows its output, where it has
        one: only within one process. It learns each token before the next is drawn.
    has_failed: set where no token could be drawn.
    """

    sampling: SamplingParams
    num_prompt_tokens: int
    sequence: Sequence | None = None
    guidance: Guidance | None = None
    has_failed: bool = False

    @classmethod
    def of(cls, sequence: Sequence, guidance: Guidance | None) -> Draw | None:
        """None where vLLM's own greedy choice is the token."""
        sampling = sequence.sampling
        if not (sampling.temperature > 0 or sampling.adjusts_logits or sequence.guide):
            return None
        plain = replace(sampling, num_logprobs=None, num_prompt_logprobs=None)
        if sequence.guide is None:
            return cls(plain, sequence.num_prompt_tokens)
        return cls(plain, sequence.num_prompt_tokens, sequence, guidance)


@dataclass(slots=True)
class _Row:
    """A sequence in vLLM's batch."""

    draw: Draw
    sequence: Sequence
    num_given: int  # tokens that vLLM takes for the prompt
    output: list[int]  # vLLM's own list, which grows

    def catch_up(self) -> Sequence:
        """The sequence with all tokens up to now."""
        known = len(self.sequence.token_ids) - self.num_given
        self.sequence.token_ids.extend(self.output[known:])
        return self.sequence


class Drawing(LogitsProcessor):
    """One in each process of vLLM's that draws tokens."""

    def __init__(self, vllm_config: object, device: object, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Row] = {}  # by their place in the batch
        self._sampler = Sampler()

    def is_argmax_invariant(self) -> bool:
        """No: it decides."""
        return False

    def update_state(self, batch_update: object) -> None:
        """Follow who comes, goes and moves."""
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: Tensor) -> Tensor:
        """Leave one choice in each row that asks. Shape: (rows, vocab), changed in place."""
        if not self._rows:
            return logits
        places = sorted(self._rows)
        rows = [self._rows[place] for place in places]
        asked = logits if len(places) == len(logits) else logits[places]
        for place, row, sample in zip(places, rows, self._sample(rows, asked), strict=True):
            if sample.token_id is None:
                row.draw.has_failed = True
                continue
            token_id = sample.token_id
            if row.sequence.guide is not None:
                token_id = row.sequence.guide.choose(token_id)
            logits[place, token_id] = math.inf
        return logits

    def _sample(self, rows: list[_Row], logits: Tensor) -> list[SampledToken]:
        sequences = [row.catch_up() for row in rows]
        guidance = next((row.draw.guidance for row in rows if row.draw.guidance), None)
        masks = None if guidance is None else guidance.find_masks(sequences, None)
        try:
            return self._sampler.launch(logits, sequences, None, masks).collect()
        finally:
            if masks is not None:
                masks.wait()


def _row(params: VllmParams, prompt: list[int] | None, output: list[int]) -> _Row | None:
    """A sequence that enters the batch, or comes back to it; None where it asks for nothing."""
    draw = (params.extra_args or {}).get(KEY)
    if draw is None:
        return None
    assert isinstance(draw, Draw)
    assert prompt is not None
    sequence = Sequence(
        sequence_id="",
        sampling=draw.sampling,
        token_ids=list(prompt),
        num_prompt_tokens=draw.num_prompt_tokens,
        guide=None if draw.sequence is None else draw.sequence.guide,
    )
    return _Row(draw, sequence, len(prompt), output)
