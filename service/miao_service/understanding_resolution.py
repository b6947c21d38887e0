"""A checked request to an encoder and its model become a submission, in tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from miao.internal.v1.queue_pb2 import Job, Understanding
from miao.v1 import understanding_pb2 as understanding
from miao.v1 import understanding_service_pb2 as rpc
from miao_queue import records
from miao_queue.records import Submission
from miao_service.encoder_tokenization import EncodedInput, Text
from miao_service.errors import InvalidRequestError
from miao_service.models import ModelCatalog, ServedModel
from miao_service.settings import ServiceSettings
from miao_service.single_submission import single_submission

MAX_TOKENS = 131_072  # of a request
MAX_RESULT_BYTES = 3 * 1024 * 1024  # below the 4 MiB that gRPC takes by default
_SHORT_REQUEST_CHARS = 2048  # tokenized at once; longer ones in a thread

Request = rpc.EmbedRequest | rpc.ClassifyRequest | rpc.RerankRequest


@dataclass(frozen=True, slots=True)
class Question:
    """What is submitted, and what its answer is read with."""

    submission: Submission
    model: ServedModel
    inputs: Sequence[EncodedInput]


class UnderstandingResolver:
    """Turns requests into questions."""

    def __init__(self, catalog: ModelCatalog, settings: ServiceSettings) -> None:
        self._catalog = catalog
        self._settings = settings

    async def embed(
        self, request: rpc.EmbedRequest, tenant: str, time_remaining: float | None
    ) -> Question:
        """Texts to be made vectors."""
        model = await self._model(request.model, understanding.TASK_EMBED)
        prompt = _prompt(model, request)
        dimensions = _dimensions(model, request)
        inputs = await self._encode(
            model, [prompt + text for text in request.inputs], _at("inputs"), request.overlong
        )
        _check_result(len(inputs) * dimensions, "inputs")
        asked = Understanding(task=understanding.TASK_EMBED, dimensions=request.dimensions)
        if request.HasField("normalize"):
            asked.normalize = request.normalize
        return self._question(request, model, inputs, asked, tenant, time_remaining)

    async def classify(
        self, request: rpc.ClassifyRequest, tenant: str, time_remaining: float | None
    ) -> Question:
        """Texts, pairs or tokens to be labelled, as the model does."""
        tasks = (understanding.TASK_CLASSIFY, understanding.TASK_CLASSIFY_TOKENS)
        model = await self._model(request.model, *tasks)
        task = next(task for task in tasks if task in model.tasks)
        of_tokens = task == understanding.TASK_CLASSIFY_TOKENS
        texts: list[Text] = []
        for index, each in enumerate(request.inputs):
            if of_tokens and each.HasField("text_pair"):
                raise InvalidRequestError.of(
                    f"inputs[{index}].text_pair", "must be unset: the model labels tokens of a text"
                )
            texts.append((each.text, each.text_pair) if each.HasField("text_pair") else each.text)
        inputs = await self._encode(
            model, texts, _at("inputs"), request.overlong, with_spans=of_tokens
        )
        labels = len(model.card.encoder.labels)
        _check_result(2 * _tokens(inputs) if of_tokens else len(inputs) * labels, "inputs")
        asked = Understanding(task=task, raw_scores=request.raw_scores)
        return self._question(request, model, inputs, asked, tenant, time_remaining)

    async def rerank(
        self, request: rpc.RerankRequest, tenant: str, time_remaining: float | None
    ) -> Question:
        """A query with each of its documents to be scored."""
        model = await self._model(request.model, understanding.TASK_RERANK)
        pairs: list[Text] = [(request.query, document) for document in request.documents]
        inputs = await self._encode(model, pairs, _at("documents"), request.overlong)
        asked = Understanding(task=understanding.TASK_RERANK, raw_scores=request.raw_scores)
        return self._question(request, model, inputs, asked, tenant, time_remaining)

    async def _model(self, name: str, *tasks: understanding.Task) -> ServedModel:
        async with asyncio.timeout(self._settings.redis_timeout_seconds):
            return await self._catalog.resolve(name, "model", *tasks)

    async def _encode(
        self,
        model: ServedModel,
        texts: Sequence[Text],
        path: Callable[[int], str],
        overlong: understanding.Overlong,
        *,
        with_spans: bool = False,
    ) -> list[EncodedInput]:
        assert model.inputs is not None
        work = partial(
            model.inputs.encode,
            texts,
            path,
            cut=overlong == understanding.OVERLONG_CUT,
            with_spans=with_spans,
        )
        is_short = sum(map(_size, texts)) <= _SHORT_REQUEST_CHARS
        inputs = work() if is_short else await self._catalog.in_thread(work)
        if _tokens(inputs) > MAX_TOKENS:
            raise InvalidRequestError.of(
                path(0).partition("[")[0],
                f"must have at most {MAX_TOKENS:,} tokens in all, not {_tokens(inputs):,}",
            )
        return inputs

    def _question(
        self,
        request: Request,
        model: ServedModel,
        inputs: Sequence[EncodedInput],
        asked: Understanding,
        tenant: str,
        time_remaining: float | None,
    ) -> Question:
        asked.inputs.extend(each.input for each in inputs)
        submission = single_submission(
            self._settings,
            model,
            Job(understanding=asked),
            request_id=request.request_id,
            tenant=tenant,
            handling=request.handling,
            time_remaining=time_remaining,
            num_tokens=_tokens(inputs),
            fingerprint=records.call_fingerprint(request),
        )
        return Question(submission, model, inputs)


def _prompt(model: ServedModel, request: rpc.EmbedRequest) -> str:
    """What comes before each text."""
    encoder = model.card.encoder
    if not request.HasField("prompt_name"):
        return encoder.prompts[encoder.default_prompt_name] if encoder.default_prompt_name else ""
    if request.prompt_name not in encoder.prompts:
        known = ", ".join(sorted(encoder.prompts)) or "none"
        raise InvalidRequestError.of(
            "prompt_name", f"must be one of the model's own prompts; it has: {known}"
        )
    return encoder.prompts[request.prompt_name]


def _dimensions(model: ServedModel, request: rpc.EmbedRequest) -> int:
    most = model.card.encoder.embedding_dimensions
    if request.dimensions > most:
        raise InvalidRequestError.of(
            "dimensions", f"must be at most {most}, the model's own, not {request.dimensions}"
        )
    return request.dimensions or most


def _check_result(num_numbers: int, path: str) -> None:
    if 4 * num_numbers > MAX_RESULT_BYTES:
        raise InvalidRequestError.of(
            path,
            f"ask for {4 * num_numbers:,} bytes of numbers; an answer has at most "
            f"{MAX_RESULT_BYTES:,}. Send fewer at a time",
        )


def _at(path: str) -> Callable[[int], str]:
    return lambda index: f"{path}[{index}]"


def _tokens(inputs: Sequence[EncodedInput]) -> int:
    return sum(each.num_tokens for each in inputs)


def _size(text: Text) -> int:
    """Characters, where each text counts for some more."""
    return 16 + (len(text) if isinstance(text, str) else len(text[0]) + len(text[1]))
