"""What a caller may ask of a generation, and the request that says so."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypedDict, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtobufMessage

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as service_pb
from miao_client import tools as tools_of
from miao_client.errors import InvalidRequestError
from miao_client.formats import ResponseFormat, write_format
from miao_client.prompts import Prompt, write_prompt
from miao_client.tools import Tool, ToolChoice, write_tools

_Choice = TypeVar("_Choice", bound=StrEnum)


class Priority(StrEnum):
    """Which generations go first when workers are busy."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class OnDisconnect(StrEnum):
    """What becomes of a generation when its caller goes away."""

    CANCEL = "cancel"
    CONTINUE = "continue"


class Truncation(StrEnum):
    """What becomes of a prompt that is too long; of a conversation whole turns are left out."""

    REFUSE = "refuse"
    KEEP_END = "keep_end"  # its beginning is left out, or the oldest turns
    KEEP_BEGINNING = "keep_beginning"  # its end is left out; not of a conversation
    KEEP_BOTH_ENDS = "keep_both_ends"  # its middle is left out, or the turns behind the first


class Ranking(StrEnum):
    """What makes an answer the best."""

    MEAN_LOGPROB = "mean_logprob"  # of its tokens
    TOTAL_LOGPROB = "total_logprob"  # their sum, which favours short answers


class GenerateOptions(TypedDict, total=False):
    """Arguments of `generate` and `create`. None is "not said"; 0 is a value."""

    model: str | None  # name; None: the client's, else the only one served
    temperature: float | None  # 0 to 5; 0 takes the likeliest token
    top_p: float | None  # above 0, at most 1
    top_k: int | None  # 0 keeps all
    min_p: float | None  # 0 to 1
    seed: int | None  # 64 bits; None: follows from the request_id
    repetition_penalty: float | None  # above 0, at most 10; of prompt and output; 1: none
    presence_penalty: float | None  # -2 to 2
    frequency_penalty: float | None  # -2 to 2
    logit_bias: Mapping[int, float] | None  # by token id, -100 to 100
    max_tokens: int | None  # at least 1, or 0 with prompt_logprobs
    max_prompt_tokens: int | None  # None: what the context holds
    truncation: Truncation | str | None  # of a prompt that is longer; None: refuse
    cache_salt: str | None  # share computed beginnings only where it is equal
    min_tokens: int | None  # before which no stop takes effect
    stop: str | Sequence[str] | None  # texts that end it; not part of the output
    stop_token_ids: Sequence[int] | None  # that end it, besides the model's own; at most 64
    ignore_eos: bool | None  # go on behind the model's own end
    bad_words: str | Sequence[str] | None  # that must not be said
    bad_token_ids: Sequence[Sequence[int]] | None  # sequences of tokens that must not be said
    response_format: ResponseFormat | None  # the form of the output
    logprobs: int | None  # 0: of the chosen token; n: and of the n likeliest
    n: int | None  # answers to the prompt, each with draws of its own; to 16
    best_of: int | None  # generate so many, to 16, and name the n best
    ranking: Ranking | str | None  # what makes an answer the best
    echo: bool | None  # stream the prompt's tokens before the answers
    prompt_logprobs: int | None  # echo, with log-probabilities as those of the output
    priority: Priority | str | None
    timeout: float | None  # seconds from acceptance to the end; None: the client's
    queue_timeout: float | None  # seconds to wait for a worker
    request_id: str | None  # idempotency key; None: the SDK makes one
    on_disconnect: OnDisconnect | str | None
    tools: Sequence[Tool | Callable[..., Any]] | None  # with a conversation; see `tool`
    tool_choice: ToolChoice | str | Tool | Callable[..., Any] | None  # None: as "auto"
    enable_thinking: bool | None  # of a conversation; None: as the model's template does


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to generate, and what the SDK itself must know of it."""

    request: service_pb.GenerateRequest
    timeout: float | None
    cancel_on_close: bool  # whether leaving the stream early cancels the generation
    draws_id: bool = False  # whether the request id is the SDK's own

    def under_another_id(self) -> Submission:
        """The same, as another generation."""
        request = service_pb.GenerateRequest()
        request.CopyFrom(self.request)
        request.request_id = uuid.uuid4().hex
        return dataclasses.replace(self, request=request)


def submission(
    prompt: Prompt,
    *,
    model: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    max_tokens: int | None = None,
    max_prompt_tokens: int | None = None,
    truncation: Truncation | str | None = None,
    cache_salt: str | None = None,
    min_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    ignore_eos: bool | None = None,
    bad_words: str | Sequence[str] | None = None,
    bad_token_ids: Sequence[Sequence[int]] | None = None,
    response_format: ResponseFormat | None = None,
    logprobs: int | None = None,
    n: int | None = None,
    best_of: int | None = None,
    ranking: Ranking | str | None = None,
    echo: bool | None = None,
    prompt_logprobs: int | None = None,
    priority: Priority | str | None = None,
    timeout: float | None = None,
    queue_timeout: float | None = None,
    request_id: str | None = None,
    on_disconnect: OnDisconnect | str | None = None,
    tools: Sequence[Tool | Callable[..., Any]] | None = None,
    tool_choice: ToolChoice | str | Tool | Callable[..., Any] | None = None,
    enable_thinking: bool | None = None,
) -> Submission:
    """Build the request, with an idempotency key.

    Raises:
        InvalidRequestError: A value does not fit its field; the rest is for the service to judge.
        TypeError: A value or the prompt has the wrong type.
    """
    spec = pb.GenerationSpec()
    write_prompt(spec, prompt)
    _set(spec, "spec", model=model, max_tokens=max_tokens, min_tokens=min_tokens)
    _set(spec, "spec", ignore_eos=ignore_eos, logprobs=logprobs)
    _set(spec, "spec", n=n, best_of=best_of, echo=echo, prompt_logprobs=prompt_logprobs)
    _set(spec, "spec", max_prompt_tokens=max_prompt_tokens, cache_salt=cache_salt)
    if truncation is not None:
        spec.truncation = TRUNCATIONS[choice(Truncation, truncation, "spec.truncation")]
    if ranking is not None:
        spec.ranking = _RANKINGS[choice(Ranking, ranking, "spec.ranking")]
    drawing = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "seed": seed,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
    }
    _set(spec.sampling, "spec.sampling", **drawing)
    _set_bias(spec.sampling, logit_bias)
    _set_format(spec, response_format)
    _extend(spec, "stop", [stop] if isinstance(stop, str) else stop)
    _extend(spec, "stop_token_ids", stop_token_ids)
    _extend(spec, "bad_words", [bad_words] if isinstance(bad_words, str) else bad_words)
    _add_bad_tokens(spec, bad_token_ids)
    if priority is not None:
        spec.priority = PRIORITIES[choice(Priority, priority, "spec.priority")]
    _set_duration(spec.timeout, "spec.timeout", timeout)
    _set_duration(spec.queue_timeout, "spec.queue_timeout", queue_timeout)
    leaving = None
    if on_disconnect is not None:
        leaving = choice(OnDisconnect, on_disconnect, "spec.on_disconnect")
    spec.on_disconnect = _LEAVING[leaving]
    write_tools(spec, tools)
    if tool_choice is not None:
        spec.tool_choice.CopyFrom(_tool_choice(tool_choice))
    if enable_thinking is not None:
        if not spec.HasField("chat"):
            raise InvalidRequestError.of(
                "spec.chat.enable_thinking", "needs a list of messages as the prompt"
            )
        spec.chat.enable_thinking = enable_thinking
    request = service_pb.GenerateRequest(spec=spec)
    _set(request, "", request_id=uuid.uuid4().hex if request_id is None else request_id)
    return Submission(
        request,
        timeout,
        cancel_on_close=leaving is not OnDisconnect.CONTINUE,
        draws_id=request_id is None,
    )


PRIORITIES = {
    Priority.LOW: pb.PRIORITY_LOW,
    Priority.NORMAL: pb.PRIORITY_NORMAL,
    Priority.HIGH: pb.PRIORITY_HIGH,
}
TRUNCATIONS = {
    Truncation.REFUSE: pb.TRUNCATION_REFUSE,
    Truncation.KEEP_END: pb.TRUNCATION_KEEP_END,
    Truncation.KEEP_BEGINNING: pb.TRUNCATION_KEEP_BEGINNING,
    Truncation.KEEP_BOTH_ENDS: pb.TRUNCATION_KEEP_BOTH_ENDS,
}
_RANKINGS = {
    Ranking.MEAN_LOGPROB: pb.RANKING_MEAN_LOGPROB,
    Ranking.TOTAL_LOGPROB: pb.RANKING_TOTAL_LOGPROB,
}
_LEAVING: dict[OnDisconnect | None, pb.OnDisconnect] = {
    None: pb.ON_DISCONNECT_CONTINUE,  # the SDK comes back by itself, and cancels in words
    OnDisconnect.CONTINUE: pb.ON_DISCONNECT_CONTINUE,
    OnDisconnect.CANCEL: pb.ON_DISCONNECT_CANCEL,
}


def check_timeout(seconds: float | None, field: str) -> None:
    """Refuse a timeout that is over before it begins; None is no timeout."""
    if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
        raise InvalidRequestError.of(field, "must be above 0 and at most 24 hours")


def check_follow(after: int, timeout: float | None) -> None:
    """Refuse a place in a stream that there cannot be."""
    if not 0 <= after < 2**64:
        raise InvalidRequestError.of("after_sequence_number", "must be from 0 to 2^64 - 1")
    check_timeout(timeout, "timeout")


LONGEST_SECONDS = 24 * 60 * 60


def _set(message: ProtobufMessage, path: str, **values: object) -> None:
    for name, value in values.items():
        if value is None:
            continue
        try:
            setattr(message, name, value)
        except ValueError as error:  # a negative or too large number, or not valid Unicode
            raise InvalidRequestError.of(
                f"{path}.{name}".lstrip("."), f"does not fit: {error}"
            ) from None


def _extend(spec: pb.GenerationSpec, name: str, values: Sequence[object] | None) -> None:
    if values is None:
        return
    try:
        getattr(spec, name).extend(values)
    except ValueError as error:
        raise InvalidRequestError.of(f"spec.{name}", f"does not fit: {error}") from None


def _add_bad_tokens(spec: pb.GenerationSpec, sequences: Sequence[Sequence[int]] | None) -> None:
    for index, token_ids in enumerate(sequences or ()):
        try:
            spec.bad_token_ids.add(ids=token_ids)
        except ValueError as error:
            raise InvalidRequestError.of(
                f"spec.bad_token_ids[{index}].ids", f"does not fit: {error}"
            ) from None


def _set_bias(sampling: pb.Sampling, bias: Mapping[int, float] | None) -> None:
    try:
        for token_id, value in (bias or {}).items():
            sampling.logit_bias[token_id] = value
    except ValueError as error:
        raise InvalidRequestError.of("spec.sampling.logit_bias", f"does not fit: {error}") from None


def _set_format(spec: pb.GenerationSpec, response_format: ResponseFormat | None) -> None:
    if response_format is None:
        return
    try:
        write_format(spec.response_format, response_format)
    except ValueError as error:
        raise InvalidRequestError.of("spec.response_format", f"does not fit: {error}") from None


def _set_duration(duration: Duration, field: str, seconds: float | None) -> None:
    check_timeout(seconds, field)
    if seconds is not None:
        duration.FromNanoseconds(round(seconds * 1e9))


def _tool_choice(choice: ToolChoice | str | Tool | Callable[..., Any]) -> pb.ToolChoice:
    try:
        return tools_of.tool_choice(choice)
    except ValueError:
        allowed = ", ".join(f'"{member.value}"' for member in ToolChoice)
        raise InvalidRequestError.of(
            "spec.tool_choice", f"must be one of {allowed}, a Tool, or a function"
        ) from None


def choice(kind: type[_Choice], value: str, field: str) -> _Choice:
    """The member of an enum that a value names."""
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(f'"{member.value}"' for member in kind)
        raise InvalidRequestError.of(field, f"must be one of {allowed}") from None
