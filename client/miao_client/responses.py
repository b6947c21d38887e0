"""Turns the contract's messages into the SDK's frozen results."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from miao.v1 import explanation_pb2 as explanation_pb
from miao.v1 import generation_pb2 as pb
from miao.v1 import model_service_pb2 as models_pb
from miao.v1 import understanding_pb2 as understanding_pb
from miao_client import results
from miao_client.tools import ToolCall, ToolCallDelta

_CODE_NAMES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


def finish_reason(number: int) -> results.FinishReason:
    """The reason by its number; UNSPECIFIED for one added after this SDK."""
    try:
        name = pb.FinishReason.Name(number)
    except ValueError:
        return results.FinishReason.UNSPECIFIED
    return results.FinishReason(name.removeprefix("FINISH_REASON_").lower())


def generation_state(number: int) -> results.GenerationState:
    """The state by its number; UNSPECIFIED for one added after this SDK."""
    try:
        name = pb.GenerationState.Name(number)
    except ValueError:
        return results.GenerationState.UNSPECIFIED
    return results.GenerationState(name.removeprefix("GENERATION_STATE_").lower())


def explain_method(number: int) -> results.ExplainMethod:
    """The method by its number; UNSPECIFIED for one added after this SDK."""
    try:
        name = explanation_pb.ExplainMethod.Name(number)
    except ValueError:
        return results.ExplainMethod.UNSPECIFIED
    return results.ExplainMethod(name.removeprefix("EXPLAIN_METHOD_").lower())


def task(number: int) -> results.Task:
    """The task by its number; UNSPECIFIED for one added after this SDK."""
    try:
        name = understanding_pb.Task.Name(number)
    except ValueError:
        return results.Task.UNSPECIFIED
    return results.Task(name.removeprefix("TASK_").lower())


def accepted(message: pb.Accepted) -> results.Accepted:
    """What `accepted` says."""
    return results.Accepted(
        generation_id=message.generation_id,
        request_id=message.request_id,
        model=message.model,
        accept_time=_time(message.accept_time),
        num_prompt_tokens=message.num_prompt_tokens,
        seed=message.seed,
        max_tokens=message.max_tokens,
        num_echoed_tokens=message.num_echoed_tokens,
        num_dropped_prompt_tokens=message.num_dropped_prompt_tokens,
    )


def logprobs(messages: Iterable[pb.TokenLogprobs]) -> tuple[results.TokenLogprobs, ...]:
    """Log-probabilities, one for each token."""
    return tuple(
        results.TokenLogprobs(
            message.logprob,
            tuple(results.TopLogprob(top.token_id, top.logprob, top.text) for top in message.top),
        )
        for message in messages
    )


def call_deltas(parts: Iterable[pb.Part]) -> tuple[ToolCallDelta, ...]:
    """What parts add to calls."""
    deltas = (part.tool_call for part in parts if part.HasField("tool_call"))
    return tuple(ToolCallDelta(d.index, d.id, d.name, d.arguments_json) for d in deltas)


def ending(message: pb.Finished) -> results.Ending:
    """How a generation ended."""
    failed = message.HasField("error")
    return results.Ending(
        reason=finish_reason(message.reason),
        stopped_by=_stopped_by(message),
        usage=usage(message.usage),
        timings=timings(message.timings),
        error_code=_CODE_NAMES.get(message.error.code, "UNKNOWN") if failed else None,
        error_message=message.error.message if failed else None,
        answers=tuple(map(_answer_ending, message.answers)),
        best=tuple(message.best),
    )


def generation(message: pb.Generation) -> results.Generation:
    """A generation as the service holds it."""
    return results.Generation(
        generation_id=message.generation_id,
        request_id=message.request_id,
        model=message.model,
        state=generation_state(message.state),
        attempt=message.attempt,
        accept_time=_time(message.accept_time),
        sequence_number=message.sequence_number,
        ending=ending(message.finished) if message.HasField("finished") else None,
        output=_output(message.output) if message.HasField("output") else None,
    )


def model(message: models_pb.Model) -> results.Model:
    """A model as its workers announced it."""
    return results.Model(
        name=message.name,
        architecture=message.architecture,
        num_parameters=message.num_parameters,
        dtype=message.dtype,
        max_model_length=message.max_model_length,
        vocab_size=message.vocab_size,
        has_chat_template=message.has_chat_template,
        default_sampling=_sampling(message.default_sampling),
        num_workers=message.num_workers,
        num_queued=message.num_queued,
        base=message.base or None,
        tool_format=message.tool_format,
        separates_reasoning=message.separates_reasoning,
        tasks=tuple(map(task, message.tasks)),
        embedding_dimensions=message.embedding_dimensions,
        labels=tuple(message.labels),
        prompt_names=tuple(message.prompt_names),
        explain_methods=tuple(map(explain_method, message.explain_methods)),
    )


def tokenization(message: models_pb.TokenizeResponse) -> results.Tokenization:
    """A text as tokens."""
    return results.Tokenization(
        tuple(message.token_ids), tuple(message.tokens), message.max_model_length
    )


def _answer_ending(message: pb.AnswerEnd) -> results.AnswerEnding:
    ranked = message.HasField("total_logprob")
    return results.AnswerEnding(
        reason=finish_reason(message.reason),
        stopped_by=_stopped_by(message),
        seed=message.seed,
        total_logprob=message.total_logprob if ranked else None,
    )


def _stopped_by(message: pb.Finished | pb.AnswerEnd) -> str | int | None:
    match message.WhichOneof("stopped_by"):
        case "stop":
            return message.stop
        case "stop_token_id":
            return message.stop_token_id
    return None


def _output(message: pb.Output) -> results.Output:
    return results.Output(
        message.text,
        tuple(message.token_ids),
        tuple(map(_said, message.others)),
        _said(message.prompt) if message.HasField("prompt") else None,
        message.reasoning,
        _calls(message.tool_calls),
    )


def _said(message: pb.Saying) -> results.Said:
    return results.Said(
        message.text,
        tuple(message.token_ids),
        reasoning=message.reasoning,
        tool_calls=_calls(message.tool_calls),
    )


def _calls(messages: Iterable[pb.ToolCall]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(call.id, call.name, call.arguments_json) for call in messages)


def usage(message: pb.Usage) -> results.Usage:
    """Tokens that it took."""
    return results.Usage(message.prompt_tokens, message.cached_prompt_tokens, message.output_tokens)


def timings(message: pb.Timings) -> results.Timings:
    """Where the time went."""
    return timings_of(message, "queued", "first_token", "total")


def timings_of(message: Any, *names: str) -> results.Timings:
    """The durations of these names, as far as the message has them."""
    found = {name: getattr(message, name) for name in names if message.HasField(name)}
    return results.Timings(**{f"{name}_seconds": _seconds(each) for name, each in found.items()})


def _sampling(message: pb.Sampling) -> results.DefaultSampling:
    names = ("temperature", "top_p", "top_k", "min_p")
    return results.DefaultSampling(
        **{name: getattr(message, name) for name in names if message.HasField(name)}
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
