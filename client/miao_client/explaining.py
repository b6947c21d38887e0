"""Explanations: the requests that ask for one, and the answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from miao.v1 import explain_service_pb2 as rpc
from miao.v1 import explanation_pb2 as explanation
from miao.v1 import generation_pb2 as pb
from miao_client.errors import InvalidRequestError, ModelNotFoundError
from miao_client.explanation_results import (
    Attribution,
    Explanation,
    InputToken,
    OutputToken,
)
from miao_client.methods import Method, Operation
from miao_client.options import PRIORITIES, Priority, check_timeout, choice
from miao_client.prompts import Prompt, TokenIds, as_spec
from miao_client.responses import explain_method, timings_of
from miao_client.results import ExplainMethod, TopLogprob
from miao_client.understanding_results import LabelScore

EXPLAIN = Method("/miao.v1.ExplainService/Explain", rpc.ExplainResponse, ModelNotFoundError)


class ExplainOptions(TypedDict, total=False):
    """Arguments that `explain` and `explain_label` share. None is "not said"."""

    model: str | None  # name; None: the client's, else the only one that does this
    method: ExplainMethod | str | None  # None: leave one out
    steps: int | None  # on the way, with integrated gradients; 2 to 256, None: 32
    priority: Priority | str | None
    timeout: float | None  # seconds; None: the client's, else 24 hours
    queue_timeout: float | None  # seconds to wait for a worker
    request_id: str | None  # idempotency key; None: the SDK makes one


class ExplainOutputOptions(ExplainOptions, total=False):
    """Arguments of `explain`."""

    output: str | TokenIds | None  # what the model is taken to say; None: what it says by itself
    max_tokens: int | None  # that it says by itself: 1 to 64, None: 16
    positions: Sequence[int] | None  # tokens of the output to explain; None: all
    whole_output: bool | None  # explain them together, at the cost of one
    candidates: int | None  # the likeliest tokens in each place: 0 to 20, None: 5


class ExplainLabelOptions(ExplainOptions, total=False):
    """Arguments of `explain_label`."""

    label: str | None  # None: the one with the highest score


def explain_output(prompt: Prompt, options: ExplainOutputOptions) -> Operation[Explanation]:
    """Ask which tokens of a prompt carried the output.

    Raises:
        InvalidRequestError: A value does not fit its field.
        TypeError: A value or the prompt has the wrong type.
    """
    spec, given = rpc.ExplainSpec(), as_spec(prompt)
    match given.WhichOneof("input"):
        case "token_ids":
            spec.token_ids.CopyFrom(given.token_ids)
        case "chat":
            spec.chat.CopyFrom(given.chat)
        case _:
            spec.prompt = given.prompt
    output = options.get("output")
    if isinstance(output, TokenIds):
        _fill("spec.output_token_ids", lambda: spec.output_token_ids.ids.extend(output.ids))
    elif output is not None:
        _fill("spec.output_text", lambda: setattr(spec, "output_text", output))
    _set(spec, max_tokens=options.get("max_tokens"), candidates=options.get("candidates"))
    _set(spec, whole_output=options.get("whole_output"))
    _fill("spec.positions", lambda: spec.positions.extend(options.get("positions") or ()))
    return _operation(spec, options)


def explain_label(
    text: str | tuple[str, str], options: ExplainLabelOptions
) -> Operation[Explanation]:
    """Ask which tokens of a text carried a label.

    Raises:
        InvalidRequestError: A value does not fit its field.
    """
    spec = rpc.ExplainSpec()
    first, second = (text, None) if isinstance(text, str) else text
    _fill("spec.classify.text", lambda: setattr(spec.classify, "text", first))
    if second is not None:
        _fill("spec.classify.text_pair", lambda: setattr(spec.classify, "text_pair", second))
    _set(spec, label=options.get("label"))
    return _operation(spec, options)


def _operation(spec: rpc.ExplainSpec, options: ExplainOptions) -> Operation[Explanation]:
    """The request with what both have in common.

    What was begun goes on when its connection breaks: the SDK asks again under the
    same key.
    """
    _set(spec, model=options.get("model"), steps=options.get("steps"))
    if (method := options.get("method")) is not None:
        spec.method = _NUMBERS[choice(ExplainMethod, method, "spec.method")]
    handling = spec.handling
    handling.on_disconnect = pb.ON_DISCONNECT_CONTINUE
    if (priority := options.get("priority")) is not None:
        handling.priority = PRIORITIES[choice(Priority, priority, "spec.handling.priority")]
    check_timeout(options.get("timeout"), "spec.handling.timeout")
    if (seconds := options.get("queue_timeout")) is not None:
        check_timeout(seconds, "spec.handling.queue_timeout")
        handling.queue_timeout.FromNanoseconds(round(seconds * 1e9))
    request_id = options.get("request_id")
    request = rpc.ExplainRequest(spec=spec)
    name = uuid.uuid4().hex if request_id is None else request_id
    _fill("request_id", lambda: setattr(request, "request_id", name))
    return Operation(EXPLAIN, request, _read)


_NUMBERS = {
    ExplainMethod.UNSPECIFIED: explanation.EXPLAIN_METHOD_UNSPECIFIED,
    ExplainMethod.LEAVE_ONE_OUT: explanation.EXPLAIN_METHOD_LEAVE_ONE_OUT,
    ExplainMethod.GRADIENT_X_INPUT: explanation.EXPLAIN_METHOD_GRADIENT_X_INPUT,
    ExplainMethod.INTEGRATED_GRADIENTS: explanation.EXPLAIN_METHOD_INTEGRATED_GRADIENTS,
}


def _set(spec: rpc.ExplainSpec, **values: object) -> None:
    for name, value in values.items():
        if value is not None:
            _fill(f"spec.{name}", lambda name=name, value=value: setattr(spec, name, value))  # type: ignore[misc]


def _fill(field: str, write: Callable[[], object]) -> None:
    try:
        write()
    except ValueError as error:  # a negative or too large number, or not valid Unicode
        raise InvalidRequestError.of(field, f"does not fit: {error}") from None


def _read(answer: rpc.ExplainResponse) -> Explanation:
    return Explanation(
        method=explain_method(answer.method),
        texts=tuple(answer.texts),
        input=tuple(
            InputToken(
                token.token_id,
                token.text,
                token.text_index,
                token.start_byte,
                token.end_byte,
                token.is_special,
            )
            for token in answer.input
        ),
        output=tuple(_output_token(token) for token in answer.output),
        attributions=tuple(_attribution(each) for each in answer.attributions),
        labels=tuple(LabelScore(each.label, each.score) for each in answer.labels),
        request_id=answer.request_id,
        model=answer.model,
        timings=timings_of(answer.timings, "queued", "total"),
    )


def _output_token(token: explanation.OutputToken) -> OutputToken:
    likeliest = tuple(
        TopLogprob(each.token_id, each.logprob, each.text) for each in token.candidates
    )
    return OutputToken(token.token_id, token.text, token.logprob, likeliest)


def _attribution(message: explanation.Attribution) -> Attribution:
    def optional(name: Any) -> Any:
        return getattr(message, name) if message.HasField(name) else None

    return Attribution(
        output_index=optional("output_index"),
        label=optional("label"),
        scores=tuple(message.scores),
        value=message.value,
        baseline_value=optional("baseline_value"),
        delta=optional("delta"),
    )
