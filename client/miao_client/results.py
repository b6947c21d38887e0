"""What the service answers, as plain frozen data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from miao_client import formats
from miao_client.prompts import Message
from miao_client.tools import ToolCall, ToolCallDelta

_Kind = TypeVar("_Kind")


class FinishReason(StrEnum):
    """Why a generation ended."""

    UNSPECIFIED = "unspecified"  # a reason that this SDK is too old to know
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    ERROR = "error"


class GenerationState(StrEnum):
    """How far a generation is."""

    UNSPECIFIED = "unspecified"  # a state that this SDK is too old to know
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class Task(StrEnum):
    """What a model can be asked for."""

    UNSPECIFIED = "unspecified"  # a task that this SDK is too old to know
    GENERATE = "generate"
    EMBED = "embed"
    CLASSIFY = "classify"
    CLASSIFY_TOKENS = "classify_tokens"
    RERANK = "rerank"


class ExplainMethod(StrEnum):
    """How the share of each input token in an answer is found."""

    UNSPECIFIED = "unspecified"  # one that this SDK is too old to know
    LEAVE_ONE_OUT = "leave_one_out"  # what is explained, less what it is without the token
    GRADIENT_X_INPUT = "gradient_x_input"
    INTEGRATED_GRADIENTS = "integrated_gradients"  # shares that add up


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One of the likeliest tokens at a position."""

    token_id: int
    logprob: float  # natural logarithm, at most 0
    text: str


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probability of a chosen token, and the likeliest ones beside it."""

    logprob: float  # natural logarithm, at most 0
    top: tuple[TopLogprob, ...] = ()  # likeliest first


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event adds: `text` may be empty while a character is incomplete."""

    text: str
    token_ids: tuple[int, ...]
    sequence_number: int  # tokens so far, these included
    attempt: int  # which attempt of a worker made it, from 1
    logprobs: tuple[TokenLogprobs, ...] = ()
    answer_index: int = 0  # which of several answers it belongs to
    is_prompt: bool = False  # it belongs to none: it echoes the prompt
    reasoning: str = ""  # what it adds to the thoughts before the answer
    tool_calls: tuple[ToolCallDelta, ...] = ()  # what it adds to calls of functions
    token_texts: tuple[str, ...] = ()  # each token's share of `text`


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the service said when it took the request."""

    generation_id: str
    request_id: str
    model: str
    accept_time: datetime
    num_prompt_tokens: int
    seed: int
    max_tokens: int  # of each answer
    num_echoed_tokens: int = 0  # of the prompt, that come before the answers
    num_dropped_prompt_tokens: int = 0  # left out by truncation; not in num_prompt_tokens


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a generation took."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since acceptance; None where it never came so far."""

    queued_seconds: float | None = None
    first_token_seconds: float | None = None
    total_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AnswerEnding:
    """How one of several answers ended."""

    reason: FinishReason
    stopped_by: str | int | None  # the stop text or the stop token's id
    seed: int  # a generation of one answer with it says the same
    total_logprob: float | None = None  # of its tokens, with best_of


@dataclass(frozen=True, slots=True)
class Ending:
    """How a generation ended."""

    reason: FinishReason
    stopped_by: str | int | None  # the stop text or the stop token's id
    usage: Usage
    timings: Timings
    error_code: str | None = None  # a gRPC status code's name, with ERROR
    error_message: str | None = None
    answers: tuple[AnswerEnding, ...] = ()  # by index, where several were generated
    best: tuple[int, ...] = ()  # indices of the best answers, with best_of


@dataclass(frozen=True, slots=True)
class Said:
    """A text and its tokens."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    reasoning: str = ""  # the model's thoughts before it, where it marks them
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def message(self) -> Message:
        """It as a message, to go on with the conversation."""
        return Message("assistant", self.text, self.reasoning, self.tool_calls)


@dataclass(frozen=True, slots=True)
class Answer(Said):
    """One answer to a prompt; `ending` is None for the only one, whose end is the generation's."""

    index: int = 0  # from 0; below n, or best_of
    ending: AnswerEnding | None = None


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """All that a stream brought.

    What an answer has is that of the first in `answers` here: with
    best_of these are the best, the best first, else all by their index.
    `finish_reason`, `usage` and `timings` are None when the stream broke before
    its end. `request_id`, `model` and `seed` are None when a stream was
    followed from a sequence number above 0: they come at its beginning.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]  # one for each token, where they were asked for
    finish_reason: FinishReason | None
    stopped_by: str | int | None  # the stop text or the stop token's id
    usage: Usage | None
    timings: Timings | None
    generation_id: str | None  # None when it was never accepted
    request_id: str | None
    model: str | None
    seed: int | None
    attempts: int  # of workers; 1 when nothing failed, 0 when none began
    answers: tuple[Answer, ...] = ()
    prompt: Said | None = None  # where it was echoed
    reasoning: str = ""  # the model's thoughts before the text, where it marks them
    tool_calls: tuple[ToolCall, ...] = ()
    num_dropped_prompt_tokens: int = 0  # left out by truncation; usage is without them

    @property
    def message(self) -> Message:
        """The answer as a message, to go on with the conversation."""
        return Message("assistant", self.text, self.reasoning, self.tool_calls)

    def json(self) -> Any:
        """What the text says as JSON.

        Raises:
            ValueError: It is none: a format was not asked for, or cut short.
        """
        return json.loads(self.text)

    def parse(self, kind: type[_Kind]) -> _Kind:
        """The text as an instance of the dataclass or pydantic model that was asked for.

        Raises:
            ValueError: It is none: it was cut short, say.
        """
        value: _Kind = formats.parse(kind, self.text)
        return value


@dataclass(frozen=True, slots=True)
class Output:
    """What a generation has said so far."""

    text: str  # of the first answer, as the tokens
    token_ids: tuple[int, ...]
    others: tuple[Said, ...] = ()  # the other answers, by index
    prompt: Said | None = None  # as far as it was echoed
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation as the service holds it."""

    generation_id: str
    request_id: str
    model: str
    state: GenerationState
    attempt: int  # 0 while it waits for its first worker
    accept_time: datetime
    sequence_number: int  # tokens so far
    ending: Ending | None  # once it has ended
    output: Output | None  # only where asked for


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of a scored text."""

    token_id: int
    text: str  # its share; empty where a character spans tokens
    logprob: float | None  # None for a first token that has nothing before it
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a text is to a model."""

    tokens: tuple[ScoredToken, ...]
    log_likelihood: float  # the sum of the tokens' log-probabilities
    num_scored_tokens: int
    perplexity: float  # exp(-log_likelihood / num_scored_tokens)
    usage: Usage
    timings: Timings
    generation_id: str  # a score is kept as a generation of no tokens
    model: str
    num_dropped_prompt_tokens: int = 0  # of what stands before it, left out by truncation


@dataclass(frozen=True, slots=True)
class DefaultSampling:
    """Sampling in effect where a request says nothing; None is the service's own default."""

    temperature: float | None = None  # 0 to 5; 0 takes the likeliest token
    top_p: float | None = None  # above 0, at most 1
    top_k: int | None = None  # 0 keeps all
    min_p: float | None = None  # 0 to 1


@dataclass(frozen=True, slots=True)
class Model:
    """A model that workers have announced."""

    name: str
    architecture: str
    num_parameters: int
    dtype: str
    max_model_length: int  # tokens of prompt and output together, or of one input
    vocab_size: int
    has_chat_template: bool
    default_sampling: DefaultSampling
    num_workers: int
    num_queued: int
    base: str | None = None  # the model that it adapts, if it is an adapter
    tool_format: str = ""  # how it writes calls of functions; empty where it takes no tools
    separates_reasoning: bool = False  # whether its thoughts are told from its answers
    tasks: tuple[Task, ...] = (Task.GENERATE,)
    embedding_dimensions: int = 0  # 0 where it does not embed
    labels: tuple[str, ...] = ()  # where it classifies
    prompt_names: tuple[str, ...] = ()  # of its own prompts, for `embed`
    explain_methods: tuple[ExplainMethod, ...] = ()  # empty where it does not explain itself


@dataclass(frozen=True, slots=True)
class Tokenization:
    """A text as a model's tokens."""

    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]  # each token's form in the vocabulary
    max_model_length: int  # tokens of prompt and output together
