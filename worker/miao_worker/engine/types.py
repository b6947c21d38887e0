"""What crosses the engine's boundary: sequences go in, tokens come out.

Plain frozen data without torch, so a process that only talks to an engine can
import it. Token ids are vocabulary indices; positions count from the start of
the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class FinishReason(StrEnum):
    """Why the engine ended a sequence by itself."""

    STOP = "stop"  # a stop token id, which is the last of the output, or the grammar's end
    LENGTH = "length"  # max_tokens, or the model's context is full
    ERROR = "error"  # this sequence alone failed; `SequenceOutput.error` says how


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. `temperature=0` means greedy.

    The uniform drawn for a token depends on (seed, position) alone, so a
    sequence resumed elsewhere continues as it would have.
    """

    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    bad_token_ids: tuple[tuple[int, ...], ...] = ()  # sequences that are never completed
    min_tokens: int = 0  # output tokens before which no stop token is drawn
    stop_token_ids: frozenset[int] = frozenset()
    num_logprobs: int | None = None  # None: off; 0: the chosen token's only; n: and the n likeliest
    num_prompt_logprobs: int | None = None  # the same of the prompt's tokens

    @property
    def counts_tokens(self) -> bool:
        """Whether a token's logit depends on which tokens were said before."""
        return bool(self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty)

    @property
    def reads_output(self) -> bool:
        """Whether how a token is drawn depends on the tokens before it."""
        return self.counts_tokens or any(len(each) > 1 for each in self.bad_token_ids)

    @property
    def adjusts_logits(self) -> bool:
        """Whether a token's logit depends on more than the model."""
        return bool(
            self.counts_tokens
            or self.logit_bias
            or self.bad_token_ids
            or (self.min_tokens and self.stop_token_ids)
        )


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """A sequence to run, from the start or from where an earlier attempt ended.

    `output_token_ids` are tokens that an earlier attempt has already produced:
    they count towards `max_tokens` and are never emitted again.

    `grammar` is what the output follows, as llguidance reads it: Lark's notation, or
    JSON that names several grammars (of schemas, regular expressions, lazy parts).

    Prompt tokens from `score_from` on are scored, where their log-probabilities are
    asked for; the first of all has none. `max_tokens` may then be 0: nothing else is
    wanted.
    """

    sequence_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    output_token_ids: tuple[int, ...] = ()
    grammar: str | None = None
    score_from: int = 1
    adapter: str | None = None  # the id of one that the engine knows; None: the model by itself
    tenant: str = ""  # whose it is: tenants share rows and steps by their weights
    weight: float = 1.0
    cache_scope: bytes = b""  # blocks are shared among sequences where it is equal


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities of one token under the model's own distribution.

    Taken from the raw logits (before penalties, bias, temperature and truncation).
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (token id, logprob), likeliest first


@dataclass(frozen=True, slots=True)
class SequenceOutput:
    """What one step brought for one sequence."""

    sequence_id: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] | None = None  # one per token, if asked for
    finish_reason: FinishReason | None = None
    error: str | None = None  # with ERROR: a public sentence, never prompt or output text
    num_cached_tokens: int | None = None  # prompt tokens found in the prefix cache; on first output
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()  # of the next prompt tokens, in their order

    @property
    def is_plain(self) -> bool:
        """Whether it is one token and nothing else."""
        return (
            len(self.token_ids) == 1
            and self.finish_reason is None
            and self.logprobs is None
            and self.num_cached_tokens is None
            and not self.prompt_logprobs
        )


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine's fill after a step."""

    num_running: int = 0
    num_waiting: int = 0
    num_blocks: int = 0
    num_free_blocks: int = 0  # blocks of the prefix cache that no sequence uses count as free
    num_preemptions: int = 0  # since start
    num_steps: int = 0  # since start
    num_proposed_tokens: int = 0  # by speculation, since start
    num_accepted_tokens: int = 0  # of those: what plain decoding would have said


@dataclass(frozen=True, slots=True)
class StepOutput:
    """All that one step brought, in the order of the batch."""

    outputs: tuple[SequenceOutput, ...]
    stats: EngineStats = field(default_factory=EngineStats)
    seconds: float = 0.0  # that the step took, where somebody measures it
