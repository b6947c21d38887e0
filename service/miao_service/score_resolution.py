"""A request to score becomes a submission: a generation of no tokens, whose prompt is scored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from miao.v1 import generation_pb2 as pb
from miao.v1 import score_service_pb2 as rpc
from miao.v1.understanding_pb2 import TASK_GENERATE
from miao_queue import records
from miao_queue.records import Submission
from miao_service.errors import InvalidRequestError, Violation
from miao_service.models import ModelCatalog, ServedModel
from miao_service.resolution import Resolver
from miao_service.settings import ServiceSettings
from miao_service.tokenization import EncodedChat
from miao_service.truncation import Limit, shorten, shorten_chat

MAX_ENTRIES = 200_000  # tokens and their likeliest ones, in one response


class ScoreResolver:
    """Turns score specs into submissions."""

    def __init__(
        self, resolver: Resolver, catalog: ModelCatalog, settings: ServiceSettings
    ) -> None:
        self._resolver = resolver
        self._catalog = catalog
        self._redis_timeout = settings.redis_timeout_seconds

    async def resolve(
        self, request_id: str, spec: rpc.ScoreSpec, tenant: str, time_remaining: float | None
    ) -> Submission:
        """The submission of a checked spec."""
        async with asyncio.timeout(self._redis_timeout):
            model = await self._catalog.resolve(spec.model, "spec.model", TASK_GENERATE)
        whole, target = await self._tokens(model, spec)
        context = await self._shortened(model, spec, whole, len(target))
        _check(spec, context, target)
        generation = pb.GenerationSpec(
            model=model.card.name,
            token_ids=pb.TokenIds(ids=[*context, *target]),
            max_tokens=0,
            prompt_logprobs=spec.top_logprobs,
            priority=spec.priority,
            timeout=spec.timeout if spec.HasField("timeout") else None,
            queue_timeout=spec.queue_timeout if spec.HasField("queue_timeout") else None,
        )
        try:
            submission = await self._resolver.resolve(
                request_id, generation, tenant, time_remaining
            )
        except InvalidRequestError as error:
            raise InvalidRequestError([_renamed(each, spec) for each in error.violations]) from None
        submission.job.echo_from = len(context)
        submission.accepted.num_echoed_tokens = len(target)
        submission.accepted.num_dropped_prompt_tokens = len(whole) - len(context)
        return replace(submission, fingerprint=records.fingerprint(spec))

    async def _tokens(
        self, model: ServedModel, spec: rpc.ScoreSpec
    ) -> tuple[Sequence[int], Sequence[int]]:
        """What is not scored, and what is."""
        match spec.WhichOneof("context"):
            case "prompt":
                context = await self._catalog.encode(model, spec.prompt, "spec.prompt")
            case "chat":
                encoded = await self._catalog.encode_chat(model, spec.chat, "spec.chat")
                context = encoded.token_ids
            case "prompt_token_ids":
                context = list(spec.prompt_token_ids.ids)
            case _:
                context = []
        if spec.WhichOneof("target") == "token_ids":
            return context, spec.token_ids.ids
        if spec.WhichOneof("context") is None:
            return [], await self._catalog.encode(model, spec.text, "spec.text")
        if spec.WhichOneof("context") != "prompt":
            return context, await self._catalog.encode_part(model, spec.text, "spec.text")
        whole = await self._catalog.encode(model, spec.prompt + spec.text, "spec.text")
        border = common_length(context, whole)
        return whole[:border], whole[border:]

    async def _shortened(
        self,
        model: ServedModel,
        spec: rpc.ScoreSpec,
        context: Sequence[int],
        num_target_tokens: int,
    ) -> Sequence[int]:
        """As much of the context as there is room for before the target."""
        limit = Limit.of_context(model, spec.truncation, num_target_tokens)
        path = f"spec.{spec.WhichOneof('context')}"
        if spec.WhichOneof("context") != "chat":
            return shorten(context, limit, model, path)

        async def encode(chat: pb.Chat) -> EncodedChat:
            return await self._catalog.encode_chat(model, chat, path)

        whole = EncodedChat(list(context), starts_in_reasoning=False)
        return (await shorten_chat(spec.chat, whole, limit, encode, path)).token_ids


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


def _check(spec: rpc.ScoreSpec, context: Sequence[int], target: Sequence[int]) -> None:
    path = f"spec.{spec.WhichOneof('target')}"
    least = 1 if context else 2
    if len(target) < least:
        rule = "must give at least one token"
        if least == 2:
            rule = "must give at least two tokens where nothing stands before them"
        raise InvalidRequestError.of(path, rule)
    if spec.top_logprobs and len(target) * (1 + spec.top_logprobs) > MAX_ENTRIES:
        most = MAX_ENTRIES // len(target) - 1
        raise InvalidRequestError.of(
            "spec.top_logprobs",
            f"must be at most {max(0, most)} for {len(target)} tokens, not {spec.top_logprobs}",
        )


def _renamed(violation: Violation, spec: rpc.ScoreSpec) -> Violation:
    """The same, of the field that the caller knows."""
    field = f"spec.{spec.WhichOneof('target')}"
    if violation.field.startswith("spec.token_ids"):
        return Violation(field, violation.description)
    return violation
