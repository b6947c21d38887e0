"""How answers end and what they took, in OpenAI's words."""

from __future__ import annotations

from typing import Any

from miao_client.results import Answer, FinishReason, GenerationResult

LEAST_LOGPROB = -9999.0  # OpenAI's for what cannot be; JSON has no infinity


def finite(logprob: float) -> float:
    """A log-probability as JSON can say it."""
    return max(logprob, LEAST_LOGPROB)


def finish_reason(result: GenerationResult, answer: Answer, has_called: bool = False) -> str:
    """Why an answer ended: "stop", "length" or "tool_calls"."""
    reason = answer.ending.reason if answer.ending is not None else result.finish_reason
    if reason is FinishReason.LENGTH:
        return "length"
    return "tool_calls" if has_called else "stop"


def usage(result: GenerationResult) -> dict[str, Any]:
    """Tokens that a generation took."""
    taken = result.usage
    prompt, cached, output = (
        (taken.prompt_tokens, taken.cached_prompt_tokens, taken.output_tokens)
        if taken is not None
        else (0, 0, 0)
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def summed(usages: list[dict[str, Any]]) -> dict[str, Any]:
    """The usage of several generations together."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    total: dict[str, Any] = {name: sum(each[name] for each in usages) for name in names}
    cached = sum(each["prompt_tokens_details"]["cached_tokens"] for each in usages)
    return {**total, "prompt_tokens_details": {"cached_tokens": cached}}
