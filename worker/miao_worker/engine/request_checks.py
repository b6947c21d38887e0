"""What makes a sequence impossible to run, said in one public sentence."""

from __future__ import annotations

import math

from miao_worker.engine.types import SamplingParams, SequenceRequest


def request_fault(request: SequenceRequest, vocab_size: int, max_model_length: int) -> str | None:
    """Why the request cannot run; None where it can."""
    num_tokens = len(request.prompt_token_ids) + len(request.output_token_ids)
    if not request.prompt_token_ids:
        return "the prompt is empty"
    if len(request.prompt_token_ids) + min(1, request.sampling.max_tokens) > max_model_length:
        return (
            f"the prompt has {len(request.prompt_token_ids)} tokens, "
            f"which leaves no room for output within {max_model_length}"
        )
    if num_tokens > max_model_length:
        return f"prompt and output have {num_tokens} tokens, more than {max_model_length}"
    if not _are_token_ids(request.prompt_token_ids, vocab_size):
        return f"a prompt token id is outside the vocabulary of {vocab_size}"
    if not _are_token_ids(request.output_token_ids, vocab_size):
        return f"an output token id is outside the vocabulary of {vocab_size}"
    if not _are_token_ids(tuple(i for i, _ in request.sampling.logit_bias), vocab_size):
        return f"a token id of logit_bias is outside the vocabulary of {vocab_size}"
    if not all(
        each and _are_token_ids(each, vocab_size) for each in request.sampling.bad_token_ids
    ):
        return f"bad_token_ids hold no token, or one outside the vocabulary of {vocab_size}"
    if not request.sampling.max_tokens and len(request.prompt_token_ids) < 2:
        return "a prompt of one token has nothing to score"
    return sampling_fault(request.sampling)


def sampling_fault(params: SamplingParams) -> str | None:
    """Which sampling parameter is out of its range; None where all are within."""
    if params.max_tokens < (1 if params.num_prompt_logprobs is None else 0):
        return "max_tokens must be at least 1, or 0 where a prompt is scored"
    if not (math.isfinite(params.temperature) and params.temperature >= 0):
        return "temperature must be a finite number of at least 0"
    if not 0 < params.top_p <= 1:
        return "top_p must be above 0 and at most 1"
    if not 0 <= params.min_p <= 1:
        return "min_p must be between 0 and 1"
    if params.top_k < 0:
        return "top_k must be at least 0"
    if not (math.isfinite(params.repetition_penalty) and params.repetition_penalty > 0):
        return "repetition_penalty must be a finite number above 0"
    if not (math.isfinite(params.presence_penalty) and math.isfinite(params.frequency_penalty)):
        return "presence_penalty and frequency_penalty must be finite numbers"
    if not all(math.isfinite(bias) for _, bias in params.logit_bias):
        return "logit_bias must hold finite numbers"
    if not 0 <= params.min_tokens <= params.max_tokens:
        return "min_tokens must be between 0 and max_tokens"
    if params.num_logprobs is not None and params.num_logprobs < 0:
        return "num_logprobs must be at least 0"
    if params.num_prompt_logprobs is not None and params.num_prompt_logprobs < 0:
        return "num_prompt_logprobs must be at least 0"
    return None


def _are_token_ids(token_ids: tuple[int, ...], vocab_size: int) -> bool:
    return not token_ids or (min(token_ids) >= 0 and max(token_ids) < vocab_size)
