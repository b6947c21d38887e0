"""A request for completions of plain prompts, as calls of the SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from miao_client.gateway import sampling, truncation
from miao_client.gateway.fields import Fields
from miao_client.options import Ranking

DEFAULT_MAX_TOKENS = 16  # OpenAI's own for this call
MOST_PROMPTS = 128


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What is asked for, and how it is to be answered."""

    prompts: list[str | list[int]]
    options: dict[str, Any]
    num_answers: int  # to each prompt
    stream: bool
    include_usage: bool
    logprobs: bool


def read(fields: Fields) -> CompletionRequest:
    """Read a request.

    Raises:
        Refusal: A field is wrong, or cannot be honoured.
    """
    prompts = _prompts(fields)
    options = sampling.options(fields)
    most = fields.integer("max_tokens")
    options["max_tokens"] = DEFAULT_MAX_TOKENS if most is None else most
    options |= truncation.options(fields, options["max_tokens"])
    stream = bool(fields.boolean("stream"))
    best_of = fields.integer("best_of")
    num_answers = options.get("n", 1)
    if best_of is not None and best_of != num_answers:
        if stream:
            raise fields.wrong("best_of", "must equal n in a stream")
        options["best_of"] = best_of
    if (ranking := fields.choice("ranking", list(Ranking))) is not None:
        options["ranking"] = ranking
    logprobs = fields.integer("logprobs")
    echo = bool(fields.boolean("echo"))
    if echo:
        options["echo"] = True
    if logprobs is not None:
        options["logprobs"] = logprobs
        if echo:
            options["prompt_logprobs"] = logprobs
    if (form := sampling.response_format(fields)) is not None:
        options["response_format"] = form
    fields.only("suffix", "", why="is not supported")
    fields.only("add_special_tokens", True, why="cannot be false: send token ids instead")
    include_usage = sampling.include_usage(fields, stream)
    fields.finish()
    return CompletionRequest(
        prompts, options, num_answers, stream, include_usage, logprobs is not None
    )


def _prompts(fields: Fields) -> list[str | list[int]]:
    """One prompt or several, each text or token ids."""
    value = fields.needed("prompt", fields.take("prompt"))
    prompts = [value] if isinstance(value, str) or sampling.is_token_ids(value) else value
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise fields.wrong("prompt", f"must be a prompt, or an array of 1 to {MOST_PROMPTS}")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str) and not sampling.is_token_ids(prompt):
            raise fields.wrong(f"prompt[{index}]", "must be a string or an array of token ids")
    return prompts
