"""Which settings of speculation make sense together."""

from __future__ import annotations

from miao_worker.engine.config import MAX_SPECULATIVE_TOKENS, EngineConfig
from miao_worker.engine.errors import ModelLoadError

METHODS = ("off", "ngram", "draft")


def check_speculation(config: EngineConfig) -> None:
    """Raises ModelLoadError that names the setting and its limit."""
    method, num_tokens = config.speculation, config.num_speculative_tokens
    if method not in METHODS:
        raise ModelLoadError(f"speculation is {method!r}; it must be one of {', '.join(METHODS)}.")
    if (method == "draft") != (config.draft_model is not None):
        raise ModelLoadError(
            f"speculation is {method!r} and draft_model is {config.draft_model!r}; "
            "a draft model and the method 'draft' need each other."
        )
    if num_tokens is None:
        return
    if method == "off":
        raise ModelLoadError("num_speculative_tokens is set, but speculation is off.")
    if not 1 <= num_tokens <= MAX_SPECULATIVE_TOKENS:
        raise ModelLoadError(
            f"num_speculative_tokens is {num_tokens}; "
            f"it must be between 1 and {MAX_SPECULATIVE_TOKENS}."
        )
