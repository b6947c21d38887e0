"""Scores of texts: the request that asks for one, and the answer."""

from __future__ import annotations

import uuid

from google.protobuf.duration_pb2 import Duration

from miao.v1 import score_service_pb2 as pb
from miao_client import responses, results
from miao_client.errors import FieldViolation, InvalidRequestError, ModelNotFoundError
from miao_client.methods import Method, Operation
from miao_client.options import PRIORITIES, TRUNCATIONS, Priority, Truncation, check_timeout, choice
from miao_client.prompts import Prompt, TokenIds, as_spec

SCORE = Method("/miao.v1.ScoreService/Score", pb.ScoreResponse, ModelNotFoundError)


def score(
    text: str | TokenIds,
    prompt: Prompt | None,
    *,
    model: str | None,
    top_logprobs: int,
    priority: Priority | str | None,
    timeout: float | None,
    queue_timeout: float | None,
    request_id: str | None,
    truncation: Truncation | str | None,
) -> Operation[results.Score]:
    """Ask how likely a text is.

    Raises:
        InvalidRequestError: A value does not fit its field.
        TypeError: A value or the prompt has the wrong type.
    """
    request = pb.ScoreRequest(request_id=uuid.uuid4().hex if request_id is None else request_id)
    spec = request.spec
    try:
        spec.model = model or ""
        spec.top_logprobs = top_logprobs
        if isinstance(text, TokenIds):
            spec.token_ids.ids.extend(text.ids)
        else:
            spec.text = text
    except ValueError as error:
        rule = f"does not fit: {error}"
        raise InvalidRequestError(
            f"spec {rule}.", violations=[FieldViolation("spec", rule)]
        ) from None
    if prompt is not None:
        _write_context(spec, prompt)
    if priority is not None:
        spec.priority = PRIORITIES[choice(Priority, priority, "spec.priority")]
    if truncation is not None:
        spec.truncation = TRUNCATIONS[choice(Truncation, truncation, "spec.truncation")]
    _write_seconds(spec.timeout, "spec.timeout", timeout)
    _write_seconds(spec.queue_timeout, "spec.queue_timeout", queue_timeout)
    return Operation(SCORE, request, _read)


def _write_context(spec: pb.ScoreSpec, prompt: Prompt) -> None:
    given = as_spec(prompt)
    match given.WhichOneof("input"):
        case "token_ids":
            spec.prompt_token_ids.CopyFrom(given.token_ids)
        case "chat":
            spec.chat.CopyFrom(given.chat)
        case _:
            spec.prompt = given.prompt


def _write_seconds(duration: Duration, field: str, seconds: float | None) -> None:
    check_timeout(seconds, field)
    if seconds is not None:
        duration.FromNanoseconds(round(seconds * 1e9))


def _read(answer: pb.ScoreResponse) -> results.Score:
    return results.Score(
        tokens=tuple(
            results.ScoredToken(
                token.token_id,
                token.text,
                token.logprob if token.HasField("logprob") else None,
                tuple(results.TopLogprob(top.token_id, top.logprob, top.text) for top in token.top),
            )
            for token in answer.tokens
        ),
        log_likelihood=answer.log_likelihood,
        num_scored_tokens=answer.num_scored_tokens,
        perplexity=answer.perplexity,
        usage=responses.usage(answer.usage),
        timings=responses.timings(answer.timings),
        generation_id=answer.generation_id,
        model=answer.model,
        num_dropped_prompt_tokens=answer.num_dropped_prompt_tokens,
    )
