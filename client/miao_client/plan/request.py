"""One request on its way through the simulated fleet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Request:
    """Times are seconds of the simulation; what is None has not happened.

    prompt_tokens + said = what the engine has of it; the answer is `output_tokens` long
    """

    number: int
    arrived: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0  # of the prompt, found in the prefix cache
    is_counted: bool = True  # not of the warm-up
    said: int = 0
    claimed: float | None = None  # first
    first: float | None = None  # token, at its caller
    last: float = 0.0  # token, at its caller
    longest_gap: float = 0.0
    attempts: int = 0

    # While it is in a worker's batch:
    total: int = 0  # tokens that it came with
    computed: int = 0  # of these
    begin_step: int = 0  # in which it decoded first
    end_step: int = 0  # which yields its last token
    phase: int = 0  # of the steps in which it needs another block
