"""A checked request and its model become a submission: every choice made, nothing left open."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from functools import partial

from miao.internal.v1.queue_pb2 import AnswerForm, Job
from miao.v1 import generation_pb2 as pb
from miao.v1.understanding_pb2 import TASK_GENERATE
from miao_queue import records
from miao_queue.records import Submission
from miao_service import answers, bad_words, time_limits, truncation
from miao_service.errors import InvalidRequestError, Violation
from miao_service.formats.compiler import FormatCompiler
from miao_service.models import ModelCatalog, ServedModel
from miao_service.settings import ServiceSettings
from miao_service.tokenization import EncodedChat
from miao_service.tool_grammar import calls_grammar, must_call
from miao_service.truncation import Limit

_NEUTRAL_SAMPLING = pb.Sampling(
    temperature=1,
    top_p=1,
    top_k=0,
    min_p=0,
    repetition_penalty=1,
    presence_penalty=0,
    frequency_penalty=0,
)
PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: "normal",
    pb.PRIORITY_LOW: "low",
    pb.PRIORITY_NORMAL: "normal",
    pb.PRIORITY_HIGH: "high",
}


class Resolver:
    """Turns specs into submissions."""

    def __init__(
        self, catalog: ModelCatalog, settings: ServiceSettings, formats: FormatCompiler
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._formats = formats

    async def resolve(
        self,
        request_id: str,
        spec: pb.GenerationSpec,
        tenant: str,
        time_remaining: float | None = None,
    ) -> Submission:
        """The submission of a checked spec.

        Args:
            request_id: the caller's key; empty to draw one.
            spec: passed by `validation.check`.
            tenant: whose generation it is.
            time_remaining: seconds until the call's own deadline, if it counts.
        """
        async with asyncio.timeout(self._settings.redis_timeout_seconds):
            model = await self._catalog.resolve(spec.model, "spec.model", TASK_GENERATE)
        limit = truncation.Limit.of(model, spec)
        prompt, answer_form, num_dropped = await self._prompt(model, spec, limit)
        sampling = _sampling(model, spec)
        _check_against_model(model, spec, prompt, sampling)
        request_id = request_id or secrets.token_urlsafe(16)
        generation_id = records.generation_id(tenant, request_id)
        if not sampling.HasField("seed"):
            sampling.seed = _default_seed(generation_id)
        job = _job(model, spec, prompt, sampling)
        for token_ids in await self._bad_words(model, spec):
            job.bad_token_ids.add(ids=token_ids)
        job.guide = await self._guide(model, spec, answer_form)
        job.answer_form.MergeFrom(answer_form)
        if spec.cache_salt:
            job.cache_scope = records.cache_scope(tenant, spec.cache_salt)
        timeout_ms = time_limits.timeout_ms(self._settings, spec, time_remaining)
        return Submission(
            request_id=request_id,
            model=model.card.name,
            job=job,
            accepted=pb.Accepted(
                generation_id=generation_id,
                request_id=request_id,
                model=model.card.name,
                num_prompt_tokens=len(prompt),
                seed=job.sampling.seed,
                max_tokens=job.max_tokens,
                num_echoed_tokens=len(prompt) - job.echo_from if job.HasField("echo_from") else 0,
                num_dropped_prompt_tokens=num_dropped,
            ),
            fingerprint=records.fingerprint(spec),
            timeout_ms=timeout_ms,
            queue_timeout_ms=min(timeout_ms, time_limits.queue_timeout_ms(self._settings, spec)),
            retention_seconds=self._settings.retention_seconds,
            priority=PRIORITIES[spec.priority],
            tenant=tenant,
            vocabulary=model.card.vocabulary_digest,
        )

    async def look_again(self) -> None:
        """Learn of models that have come or changed."""
        await self._catalog.refresh()

    async def _prompt(
        self, model: ServedModel, spec: pb.GenerationSpec, limit: Limit | None
    ) -> tuple[Sequence[int], AnswerForm, int]:
        """The prompt's tokens, how to read the answer to it, and how many were left out."""
        match spec.WhichOneof("input"):
            case "token_ids":
                whole: Sequence[int] = spec.token_ids.ids
            case "chat":
                return await self._conversation(model, spec, limit)
            case _:
                whole = await self._catalog.encode(model, spec.prompt, "spec.prompt")
        prompt = truncation.shorten(whole, limit, model, f"spec.{spec.WhichOneof('input')}")
        return prompt, AnswerForm(), len(whole) - len(prompt)

    async def _conversation(
        self, model: ServedModel, spec: pb.GenerationSpec, limit: Limit | None
    ) -> tuple[Sequence[int], AnswerForm, int]:
        uses_tools = spec.tool_choice.mode != pb.TOOL_CHOICE_MODE_NONE
        tools = spec.tools if uses_tools else ()

        async def encode(chat: pb.Chat) -> EncodedChat:
            return await self._catalog.encode_chat(model, chat, "spec.chat", tools, "spec.tools")

        whole = await encode(spec.chat)
        encoded = await truncation.shorten_chat(spec.chat, whole, limit, encode, "spec.chat")
        num_dropped = len(whole.token_ids) - len(encoded.token_ids)
        if spec.HasField("response_format"):  # all of it is what the format says
            return encoded.token_ids, AnswerForm(), num_dropped
        form = AnswerForm(tool_names=[tool.name for tool in tools])
        if tools:
            form.tools.CopyFrom(model.card.tool_format)
        if model.card.HasField("reasoning_format"):
            form.reasoning.CopyFrom(model.card.reasoning_format)
            form.starts_in_reasoning = encoded.starts_in_reasoning
        return encoded.token_ids, form, num_dropped

    async def _bad_words(
        self, model: ServedModel, spec: pb.GenerationSpec
    ) -> list[bad_words.TokenSequence]:
        """The token sequences that must not be said."""
        if not (spec.bad_words or spec.bad_token_ids):
            return []
        return await self._catalog.in_thread(partial(bad_words.sequences, model.tokenizer, spec))

    async def _guide(
        self, model: ServedModel, spec: pb.GenerationSpec, answer_form: AnswerForm
    ) -> str:
        """The grammar that the output follows; empty for none."""
        tools = must_call(spec)
        path = "spec.tool_choice" if tools else "spec.response_format"
        if not (tools or spec.HasField("response_format")):
            return ""
        if model.card.guide_fault:
            raise InvalidRequestError.of(
                path, f"the model {model.card.name!r} cannot follow one: {model.card.guide_fault}"
            )
        if not tools:
            return await self._formats.compile(spec.response_format, path)
        for index, tool in enumerate(spec.tools):
            if tool.parameters_json_schema and tool in tools:
                await self._check_schema(tool, f"spec.tools[{index}].parameters_json_schema")
        single = spec.tool_choice.WhichOneof("choice") == "name"
        grammar = calls_grammar(tools, answer_form, single=single)
        return await self._formats.compile(pb.ResponseFormat(grammar=grammar), path)

    async def _check_schema(self, tool: pb.Tool, path: str) -> None:
        """Refuse a schema that output cannot be made to follow."""
        schema = pb.ResponseFormat(json_schema=tool.parameters_json_schema)
        try:
            await self._formats.compile(schema, path)
        except InvalidRequestError as error:
            raise InvalidRequestError.of(path, error.violations[0].description) from None


def _sampling(model: ServedModel, spec: pb.GenerationSpec) -> pb.Sampling:
    """What is in effect; without a seed where the spec has none."""
    sampling = pb.Sampling()
    for source in (_NEUTRAL_SAMPLING, model.card.default_sampling, spec.sampling):
        sampling.MergeFrom(source)
    return sampling


def _job(
    model: ServedModel, spec: pb.GenerationSpec, prompt: Sequence[int], sampling: pb.Sampling
) -> Job:
    stop_token_ids = set(spec.stop_token_ids)
    if not spec.ignore_eos:
        stop_token_ids.update(model.card.eos_token_ids)
    room = model.card.max_model_length - len(prompt)
    job = Job(
        prompt_token_ids=prompt,
        max_tokens=spec.max_tokens if spec.HasField("max_tokens") else room,
        min_tokens=spec.min_tokens,
        sampling=sampling,
        stop=spec.stop,
        stop_token_ids=sorted(stop_token_ids),
        logprobs=spec.logprobs if spec.HasField("logprobs") else None,
        echo_from=0 if spec.echo or spec.HasField("prompt_logprobs") else None,
        prompt_logprobs=spec.prompt_logprobs if spec.HasField("prompt_logprobs") else None,
    )
    answers.write(spec, job)
    return job


def _default_seed(generation_id: str) -> int:
    """64 bits that follow from the id, and so from tenant and request id.

    Not drawn: a generation that Redis has lost is submitted again, perhaps at
    another front, and must say the same.
    """
    return int.from_bytes(hashlib.sha256(generation_id.encode()).digest()[:8])


def _check_against_model(
    model: ServedModel, spec: pb.GenerationSpec, prompt: Sequence[int], sampling: pb.Sampling
) -> None:
    violations = [
        *answers.violations(spec, sampling),
        *outside_vocabulary(model, spec.token_ids.ids, "spec.token_ids.ids"),
        *outside_vocabulary(model, spec.stop_token_ids, "spec.stop_token_ids"),
        *outside_vocabulary(model, list(spec.sampling.logit_bias), "spec.sampling.logit_bias"),
        *bad_words.violations(model, spec),
        *(
            violation
            for index, each in enumerate(spec.bad_token_ids)
            for violation in outside_vocabulary(model, each.ids, f"spec.bad_token_ids[{index}].ids")
        ),
        *truncation.violations(spec, len(prompt)),
        *_outside_context(model, spec, len(prompt)),
        *_nothing_to_do(spec, len(prompt)),
        *_too_few_tokens(model, spec, len(prompt)),
    ]
    if violations:
        raise InvalidRequestError(violations)


def outside_vocabulary(model: ServedModel, ids: Sequence[int], path: str) -> Iterator[Violation]:
    """The first id that the model has no token for."""
    vocab_size = model.card.vocab_size
    if not ids or max(ids) < vocab_size:
        return
    for index, token_id in enumerate(ids):
        if token_id >= vocab_size:
            yield Violation(
                f"{path}[{index}]",
                f"must be below the vocabulary size {vocab_size} of the model, not {token_id}",
            )
            return


def _wants_none(spec: pb.GenerationSpec) -> bool:
    """Whether no token is to be generated."""
    return spec.HasField("max_tokens") and spec.max_tokens == 0


def _nothing_to_do(spec: pb.GenerationSpec, num_prompt_tokens: int) -> Iterator[Violation]:
    if not _wants_none(spec):
        return
    if not spec.HasField("prompt_logprobs"):
        yield Violation("spec.max_tokens", "must be at least 1, or 0 with prompt_logprobs")
    elif max(spec.n, spec.best_of) > 1:
        yield Violation("spec.n", "must be 1 with max_tokens 0")
    elif num_prompt_tokens == 1:
        path = f"spec.{spec.WhichOneof('input')}"
        yield Violation(path, "must give at least two tokens: the first has no log-probability")


def _too_few_tokens(
    model: ServedModel, spec: pb.GenerationSpec, num_prompt_tokens: int
) -> Iterator[Violation]:
    room = model.card.max_model_length - num_prompt_tokens
    most = spec.max_tokens if spec.HasField("max_tokens") else max(room, 0)
    if spec.min_tokens > most:
        yield Violation(
            "spec.min_tokens",
            f"must be at most {most}, the most tokens to generate, not {spec.min_tokens}",
        )


def _outside_context(
    model: ServedModel, spec: pb.GenerationSpec, num_prompt_tokens: int
) -> Iterator[Violation]:
    context = model.card.max_model_length
    path = f"spec.{spec.WhichOneof('input')}"
    if num_prompt_tokens == 0:
        yield Violation(path, "must give at least one token")
    elif num_prompt_tokens + (0 if _wants_none(spec) else 1) > context:
        rest = "" if _wants_none(spec) else ", and at least one must be left to generate"
        rule = f"is {num_prompt_tokens} tokens long; the model's context is {context} tokens{rest}"
        yield Violation(path, rule)
    elif spec.max_tokens > context - num_prompt_tokens:
        yield Violation(
            "spec.max_tokens",
            f"must be at most {context - num_prompt_tokens}, not {spec.max_tokens}: the model's "
            f"context is {context} tokens, and the prompt has {num_prompt_tokens}",
        )
