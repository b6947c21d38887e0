"""Tells which outputs must be the same each time, to the last token.

A draw may lie so near the edge between two tokens that float32's last bits
decide it, and those differ between a token that was decoded and one that is
computed again in a prefill, as a takeover does. Such an output proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from miao_client import GenerateOptions
from miao_worker.bundled import bundled_model_path
from miao_worker.engine.randomness import uniform
from miao_worker.engine.sampler import inverse_cdf
from miao_worker.engine.truncation import Truncation, truncate_
from miao_worker.engine.types import SamplingParams

# Several times what float32 errs by with the bundled model: 1.4e-5 in a logit,
# 3.7e-6 in a cumulative probability.
_LOGIT_ERROR = 5e-5
_PROBABILITY_ERROR = 1e-5
_NUM_TRIALS = 2


class Reference:
    """The bundled model in transformers and float64, disturbed a little."""

    def __init__(self) -> None:
        logging.disable_progress_bar()
        torch.set_num_threads(1)  # the fleet needs the processors more
        folder = bundled_model_path()
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()

    @torch.inference_mode()
    def is_decided(
        self, prompt: Sequence[int], output: Sequence[int], options: GenerateOptions
    ) -> bool:
        """Whether every token would be drawn again however float32 rounds."""
        token_ids = torch.tensor([[*prompt, *output]])
        logits = self._model(token_ids).logits[0, len(prompt) - 1 : -1]  # (tokens, vocab)
        drawn = _draws(logits, len(prompt), options)
        return all(tokens.tolist() == list(output) for tokens in drawn)


def _draws(logits: Tensor, prompt_length: int, options: GenerateOptions) -> Iterator[Tensor]:
    """The tokens drawn from these logits, with errors. Shapes: (tokens, vocab); (tokens,)."""
    generator = torch.Generator().manual_seed(0)
    params = _params(options)
    places = range(prompt_length, prompt_length + len(logits))
    uniforms = torch.tensor([uniform(params.seed, p) for p in places], dtype=torch.float64)
    truncation = Truncation.from_params([params] * len(logits), logits.device)
    for _ in range(_NUM_TRIALS):
        noise = torch.rand(logits.shape, generator=generator) * 2 - 1
        scores = (logits + noise * _LOGIT_ERROR).float()
        if params.temperature == 0:
            yield scores.argmax(dim=-1)
            continue
        scores = (scores - scores.amax(dim=-1, keepdim=True)) / params.temperature
        truncate_(scores, truncation)
        for error in (-_PROBABILITY_ERROR, _PROBABILITY_ERROR):
            yield inverse_cdf(scores, (uniforms + error).clamp(1e-12, 1 - 1e-12))


def _params(options: GenerateOptions) -> SamplingParams:
    return SamplingParams(
        max_tokens=options["max_tokens"] or 1,
        seed=options["seed"] or 0,
        temperature=options["temperature"] or 0.0,
        top_p=options.get("top_p") or 1.0,
        top_k=options.get("top_k") or 0,
        min_p=options.get("min_p") or 0.0,
        stop_token_ids=frozenset(),
        num_logprobs=None,
    )
