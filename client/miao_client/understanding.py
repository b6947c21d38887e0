"""What a caller may ask of an encoder, as ready-made operations."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict, TypeVar

from google.protobuf.message import Message

from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_pb2 as understanding_pb
from miao.v1 import understanding_service_pb2 as rpc
from miao_client.errors import InvalidRequestError, ModelNotFoundError
from miao_client.methods import Method, Operation
from miao_client.options import PRIORITIES, Priority, check_timeout, choice
from miao_client.responses import timings_of
from miao_client.understanding_results import (
    Classification,
    Classifications,
    Embedding,
    Embeddings,
    LabelScore,
    RankedDocument,
    RankedDocuments,
    TokenLabel,
)


class Overlong(StrEnum):
    """What becomes of an input that is longer than the model's context."""

    REFUSE = "refuse"
    CUT = "cut"


class UnderstandOptions(TypedDict, total=False):
    """Arguments that `embed`, `classify` and `rerank` share. None is "not said"."""

    model: str | None  # name; None: the client's, else the only one that does this
    overlong: Overlong | str | None  # None: refuse
    priority: Priority | str | None
    timeout: float | None  # seconds; None: the client's timeout, else its call_timeout
    queue_timeout: float | None  # seconds to wait for a worker
    request_id: str | None  # idempotency key; None: the SDK makes one


class EmbedOptions(UnderstandOptions, total=False):
    """Arguments of `embed`."""

    prompt_name: str | None  # of the model's own prompts; None: its default
    dimensions: int | None  # keep the first so many numbers
    normalize: bool | None  # to length 1; None: as the model's files say


class ClassifyOptions(UnderstandOptions, total=False):
    """Arguments of `classify`."""

    top_k: int | None  # the most labels of each input
    raw_scores: bool | None  # the model's own numbers, not probabilities


class RerankOptions(UnderstandOptions, total=False):
    """Arguments of `rerank`."""

    top_n: int | None  # the most documents
    raw_scores: bool | None


ClassifyInputs: TypeAlias = str | Sequence[str | tuple[str, str]]

_Request = TypeVar("_Request", rpc.EmbedRequest, rpc.ClassifyRequest, rpc.RerankRequest)


def embed(inputs: str | Sequence[str], options: EmbedOptions) -> Operation[Embeddings]:
    """Turn texts into vectors."""
    request = rpc.EmbedRequest()
    _extend(request, "inputs", [inputs] if isinstance(inputs, str) else inputs)
    _set(
        request,
        prompt_name=options.get("prompt_name"),
        dimensions=options.get("dimensions"),
        normalize=options.get("normalize"),
    )
    return Operation(_method("Embed", rpc.EmbedResponse), _handled(request, options), _embeddings)


def classify(inputs: ClassifyInputs, options: ClassifyOptions) -> Operation[Classifications]:
    """Label texts, pairs of texts, or the tokens of texts."""
    request = rpc.ClassifyRequest()
    for each in [inputs] if isinstance(inputs, str) else inputs:
        text, *pair = [each] if isinstance(each, str) else each
        message = request.inputs.add()
        _set(message, text=text, text_pair=pair[0] if pair else None)
    _set(request, top_k=options.get("top_k"), raw_scores=options.get("raw_scores"))
    method = _method("Classify", rpc.ClassifyResponse)
    return Operation(method, _handled(request, options), _classifications)


def rerank(
    query: str, documents: Sequence[str], options: RerankOptions
) -> Operation[RankedDocuments]:
    """Order documents by how well they answer a query."""
    request = rpc.RerankRequest()
    _set(request, query=query, top_n=options.get("top_n"), raw_scores=options.get("raw_scores"))
    _extend(request, "documents", documents)
    method = _method("Rerank", rpc.RerankResponse)
    texts = tuple(documents)
    return Operation(method, _handled(request, options), lambda answer: _ranking(answer, texts))


def _method(name: str, response: type[Message]) -> Method:
    return Method(f"/miao.v1.UnderstandingService/{name}", response, ModelNotFoundError)


def _handled(request: _Request, options: UnderstandOptions) -> _Request:
    """The request with what all have in common.

    What was begun goes on when its connection breaks: the SDK asks again under
    the same key.
    """
    request_id = options.get("request_id")
    _set(request, model=options.get("model"))
    _set(request, request_id=uuid.uuid4().hex if request_id is None else request_id)
    handling = request.handling
    handling.on_disconnect = pb.ON_DISCONNECT_CONTINUE
    if (overlong := options.get("overlong")) is not None:
        request.overlong = _OVERLONG[choice(Overlong, overlong, "overlong")]
    if (priority := options.get("priority")) is not None:
        handling.priority = PRIORITIES[choice(Priority, priority, "handling.priority")]
    check_timeout(options.get("timeout"), "timeout")
    if (seconds := options.get("queue_timeout")) is not None:
        check_timeout(seconds, "handling.queue_timeout")
        handling.queue_timeout.FromNanoseconds(round(seconds * 1e9))
    return request


_OVERLONG = {
    Overlong.REFUSE: understanding_pb.OVERLONG_REFUSE,
    Overlong.CUT: understanding_pb.OVERLONG_CUT,
}


def _embeddings(answer: Any) -> Embeddings:
    return Embeddings(
        embeddings=tuple(
            Embedding(each.values, each.num_tokens, each.is_cut, each.num_cut_tokens)
            for each in answer.embeddings
        ),
        dimensions=answer.dimensions,
        **_common(answer),
    )


def _classifications(answer: Any) -> Classifications:
    return Classifications(tuple(map(_classification, answer.classifications)), **_common(answer))


def _classification(message: understanding_pb.Classification) -> Classification:
    return Classification(
        labels=tuple(LabelScore(each.label, each.score) for each in message.labels),
        tokens=tuple(
            TokenLabel(each.label, each.score, each.start, each.end) for each in message.tokens
        ),
        num_tokens=message.num_tokens,
        is_cut=message.is_cut,
        num_cut_tokens=message.num_cut_tokens,
    )


def _ranking(answer: Any, documents: Sequence[str]) -> RankedDocuments:
    results = tuple(
        RankedDocument(
            each.index,
            documents[each.index],
            each.score,
            each.num_tokens,
            each.is_cut,
            each.num_cut_tokens,
        )
        for each in answer.results
    )
    return RankedDocuments(results, **_common(answer))


def _common(answer: Any) -> dict[str, Any]:
    return {
        "request_id": answer.request_id,
        "model": answer.model,
        "input_tokens": answer.usage.input_tokens,
        "timings": timings_of(answer.timings, "queued", "total"),
    }


def _set(message: Message, **values: object) -> None:
    for name, value in values.items():
        if value is None:
            continue
        try:
            setattr(message, name, value)
        except ValueError as error:  # a negative or too large number, or not valid Unicode
            raise InvalidRequestError.of(name, f"does not fit: {error}") from None


def _extend(message: Message, name: str, values: Sequence[str]) -> None:
    try:
        getattr(message, name).extend(values)
    except ValueError as error:
        raise InvalidRequestError.of(name, f"does not fit: {error}") from None
