"""A checked request to explain, and its model, become a submission, in tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from miao.internal.v1.queue_pb2 import Explanation, Job
from miao.v1 import explain_service_pb2 as rpc
from miao.v1 import explanation_pb2 as explanation
from miao.v1.understanding_pb2 import TASK_CLASSIFY, TASK_GENERATE, TASK_RERANK
from miao_queue import records
from miao_queue.records import Submission
from miao_service.encoder_tokenization import EncodedInput
from miao_service.errors import InvalidRequestError, Violation
from miao_service.models import ModelCatalog, ServedModel
from miao_service.resolution import outside_vocabulary
from miao_service.score_resolution import common_length
from miao_service.settings import ServiceSettings
from miao_service.single_submission import single_submission

MAX_TOKENS = 1024  # of input and output together
MAX_OUTPUT_TOKENS = 64
MAX_PASS_TOKENS = 262_144  # of all passes through the model
_DEFAULT_OUTPUT_TOKENS = 16
_DEFAULT_STEPS = 32
_DEFAULT_CANDIDATES = 5

_LEAVE_ONE_OUT = explanation.EXPLAIN_METHOD_LEAVE_ONE_OUT
_INTEGRATED = explanation.EXPLAIN_METHOD_INTEGRATED_GRADIENTS
METHOD_NAMES = {
    number: name.removeprefix("EXPLAIN_METHOD_")
    for name, number in explanation.ExplainMethod.items()
}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is submitted, and what its answer is read with.

    encoded: the input of a classifier; None for a model that generates.
    """

    submission: Submission
    model: ServedModel
    encoded: EncodedInput | None


class ExplainResolver:
    """Turns requests into inquiries."""

    def __init__(self, catalog: ModelCatalog, settings: ServiceSettings) -> None:
        self._catalog = catalog
        self._settings = settings

    async def resolve(
        self, request: rpc.ExplainRequest, tenant: str, time_remaining: float | None
    ) -> Inquiry:
        """What a checked request comes to."""
        spec = request.spec
        tasks = (TASK_CLASSIFY, TASK_RERANK) if spec.HasField("classify") else (TASK_GENERATE,)
        async with asyncio.timeout(self._settings.redis_timeout_seconds):
            model = await self._catalog.resolve(spec.model, "spec.model", *tasks)
        method = _method(spec, model)
        asked = Explanation(
            method=method,
            steps=(spec.steps or _DEFAULT_STEPS) if method == _INTEGRATED else 0,
        )
        if spec.HasField("classify"):
            encoded = await self._write_label(spec, model, asked)
            return self._inquiry(
                request, model, Job(explanation=asked), encoded, tenant, time_remaining
            )
        prompt = await self._write_output(spec, model, asked)
        job = Job(prompt_token_ids=prompt, explanation=asked)
        return self._inquiry(request, model, job, None, tenant, time_remaining)

    async def _write_output(
        self, spec: rpc.ExplainSpec, model: ServedModel, asked: Explanation
    ) -> Sequence[int]:
        """Say which output is explained; returns the prompt."""
        prompt, output = await self._tokens(spec, model)
        asked.output_token_ids.extend(output)
        asked.positions.extend(spec.positions)
        asked.whole_output = spec.whole_output
        asked.num_candidates = (
            spec.candidates if spec.HasField("candidates") else _DEFAULT_CANDIDATES
        )
        if spec.WhichOneof("answer") is None:
            asked.max_tokens = spec.max_tokens or _DEFAULT_OUTPUT_TOKENS
            asked.stop_token_ids.extend(model.card.eos_token_ids)
        _check_output(spec, model, prompt, asked)
        return prompt

    async def _tokens(
        self, spec: rpc.ExplainSpec, model: ServedModel
    ) -> tuple[Sequence[int], Sequence[int]]:
        """The prompt, and the output where it is given."""
        match spec.WhichOneof("input"):
            case "chat":
                encoded = await self._catalog.encode_chat(model, spec.chat, "spec.chat")
                prompt: Sequence[int] = encoded.token_ids
            case "token_ids":
                prompt = list(spec.token_ids.ids)
            case _:
                prompt = await self._catalog.encode(model, spec.prompt, "spec.prompt")
        match spec.WhichOneof("answer"):
            case "output_token_ids":
                return prompt, spec.output_token_ids.ids
            case "output_text" if spec.WhichOneof("input") == "prompt":
                text = spec.prompt + spec.output_text
                whole = await self._catalog.encode(model, text, "spec.output_text")
                border = common_length(prompt, whole)
                return whole[:border], whole[border:]
            case "output_text":
                text = spec.output_text
                return prompt, await self._catalog.encode_part(model, text, "spec.output_text")
        return prompt, ()

    async def _write_label(
        self, spec: rpc.ExplainSpec, model: ServedModel, asked: Explanation
    ) -> EncodedInput:
        """Say which label is explained, and of which input."""
        assert model.inputs is not None
        given = spec.classify
        text = (given.text, given.text_pair) if given.HasField("text_pair") else given.text
        encode = partial(
            model.inputs.encode, [text], lambda _: "spec.classify", cut=False, with_spans=True
        )
        (encoded,) = await self._catalog.in_thread(encode)
        asked.input.CopyFrom(encoded.input)
        asked.places.extend(at for at, span in enumerate(encoded.spans) if span is not None)
        if spec.HasField("label"):
            asked.label = _label(spec, model)
        _check_label(asked)
        return encoded

    def _inquiry(
        self,
        request: rpc.ExplainRequest,
        model: ServedModel,
        job: Job,
        encoded: EncodedInput | None,
        tenant: str,
        time_remaining: float | None,
    ) -> Inquiry:
        submission = single_submission(
            self._settings,
            model,
            job,
            request_id=request.request_id,
            tenant=tenant,
            handling=request.spec.handling,
            time_remaining=time_remaining,
            num_tokens=len(job.prompt_token_ids) or len(job.explanation.input.token_ids),
            fingerprint=records.fingerprint(request.spec),
        )
        return Inquiry(submission, model, encoded)


def _method(spec: rpc.ExplainSpec, model: ServedModel) -> explanation.ExplainMethod:
    """The one asked for, if the model offers it."""
    method = spec.method or _LEAVE_ONE_OUT
    offered = model.card.explain_methods
    if not offered:
        name = model.card.name
        raise InvalidRequestError.of("spec.model", f"the model {name!r} does not explain itself")
    if method not in offered:
        names = ", ".join(METHOD_NAMES[each] for each in offered if each in METHOD_NAMES)
        raise InvalidRequestError.of(
            "spec.method",
            f"must be one that the model {model.card.name!r} offers: {names}",
        )
    if spec.HasField("steps") and method != _INTEGRATED:
        raise InvalidRequestError.of("spec.steps", "is for integrated gradients alone")
    return method


def _check_output(
    spec: rpc.ExplainSpec, model: ServedModel, prompt: Sequence[int], asked: Explanation
) -> None:
    given, field = spec.WhichOneof("answer"), f"spec.{spec.WhichOneof('input')}"
    violations = [
        *outside_vocabulary(model, spec.token_ids.ids, "spec.token_ids.ids"),
        *outside_vocabulary(model, spec.output_token_ids.ids, "spec.output_token_ids.ids"),
    ]
    if not prompt:
        violations.append(Violation(field, "must give at least one token"))
    count = len(asked.output_token_ids) if given else asked.max_tokens
    if not 1 <= count <= MAX_OUTPUT_TOKENS:
        answer_field = f"spec.{given or 'max_tokens'}"
        rule = f"must come to 1 to {MAX_OUTPUT_TOKENS} tokens, not {count}"
        violations.append(Violation(answer_field, rule))
    elif asked.positions and given and asked.positions[-1] >= count:
        rule = f"must be below {count}, the number of tokens of the output"
        violations.append(Violation("spec.positions", rule))
    most = min(MAX_TOKENS, model.card.max_model_length)
    if len(prompt) + count > most:
        rule = f"is {len(prompt)} tokens long; with {count} of output at most {most} are explained"
        violations.append(Violation(field, rule))
    if violations:
        raise InvalidRequestError(violations)
    things = 1 if asked.whole_output else len(asked.positions) or count
    _check_passes(asked, len(prompt), len(prompt) + count, things, field)


def _check_label(asked: Explanation) -> None:
    length = len(asked.input.token_ids)
    if not asked.places:
        raise InvalidRequestError.of("spec.classify", "must give at least one token")
    if length > MAX_TOKENS:
        rule = f"is {length} tokens long; at most {MAX_TOKENS} are explained"
        raise InvalidRequestError.of("spec.classify", rule)
    _check_passes(asked, len(asked.places), length, 1, "spec.classify")


def _check_passes(asked: Explanation, looked_at: int, length: int, things: int, field: str) -> None:
    """Refuse what takes too long, or cannot be done of one token alone."""
    match asked.method:
        case explanation.EXPLAIN_METHOD_LEAVE_ONE_OUT:
            passes, remedy = looked_at, "shorten the input"
            one = length if asked.HasField("input") else looked_at
            if one < 2:
                rule = "must give at least two tokens where one is left out"
                raise InvalidRequestError.of(field, rule)
        case explanation.EXPLAIN_METHOD_GRADIENT_X_INPUT:
            passes, remedy = 1 + things, "shorten the input, or explain the whole_output"
        case _:
            passes = asked.steps * (1 + things)
            remedy = "ask for fewer steps or positions, or explain the whole_output"
    if passes * length > MAX_PASS_TOKENS:
        raise InvalidRequestError.of(
            field,
            f"asks for {passes:,} passes of {length:,} tokens; all passes together may have "
            f"{MAX_PASS_TOKENS:,}: {remedy}",
        )


def _label(spec: rpc.ExplainSpec, model: ServedModel) -> int:
    labels = list(model.card.encoder.labels)
    if spec.label not in labels:
        known = ", ".join(labels[:20])
        raise InvalidRequestError.of("spec.label", f"must be one of the model's labels: {known}")
    return labels.index(spec.label)
