"""What an encoder's rows of numbers mean for the caller."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_pb2 as understanding
from miao.v1 import understanding_service_pb2 as rpc
from miao_service.encoder_tokenization import EncodedInput
from miao_service.understanding_resolution import Question


def embeddings(question: Question, rows: Sequence[bytes], end: pb.Finished) -> rpc.EmbedResponse:
    """A vector for each input."""
    response = rpc.EmbedResponse(
        request_id=question.submission.request_id,
        model=question.submission.model,
        usage=_usage(question),
        timings=_timings(end),
        dimensions=len(rows[0]) // 4,
    )
    for each, row in zip(question.inputs, rows, strict=True):
        response.embeddings.add(values=row, **_size(each))
    return response


def classifications(
    request: rpc.ClassifyRequest, question: Question, rows: Sequence[bytes], end: pb.Finished
) -> rpc.ClassifyResponse:
    """The labels of each input, or of its tokens."""
    response = rpc.ClassifyResponse(
        request_id=question.submission.request_id,
        model=question.submission.model,
        usage=_usage(question),
        timings=_timings(end),
    )
    names = question.model.card.encoder.labels
    of_tokens = question.submission.job.understanding.task == understanding.TASK_CLASSIFY_TOKENS
    for each, row in zip(question.inputs, rows, strict=True):
        said = response.classifications.add(**_size(each))
        if of_tokens:
            said.tokens.extend(_token_labels(each, _numbers(row), names))
        else:
            scores = _numbers(row)
            best = sorted(range(len(scores)), key=lambda i: -scores[i])
            for label in best[: request.top_k or None]:
                said.labels.add(label=names[label], score=scores[label])
    return response


def ranking(
    request: rpc.RerankRequest, question: Question, rows: Sequence[bytes], end: pb.Finished
) -> rpc.RerankResponse:
    """The documents, the best first."""
    response = rpc.RerankResponse(
        request_id=question.submission.request_id,
        model=question.submission.model,
        usage=_usage(question),
        timings=_timings(end),
    )
    scores = [_numbers(row)[0] for row in rows]
    best = sorted(range(len(scores)), key=lambda i: -scores[i])
    for index in best[: request.top_n or None]:
        size = _size(question.inputs[index])
        response.results.add(index=index, score=scores[index], **size)
    return response


def _token_labels(
    encoded: EncodedInput, numbers: Sequence[float], names: Sequence[str]
) -> list[understanding.TokenLabel]:
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return [
        understanding.TokenLabel(label=names[int(label)], score=score, start=span[0], end=span[1])
        for span, (label, score) in zip(encoded.spans, pairs, strict=True)
        if span is not None
    ]


def _size(encoded: EncodedInput) -> dict[str, Any]:
    return {
        "num_tokens": encoded.num_tokens,
        "is_cut": encoded.is_cut,
        "num_cut_tokens": encoded.num_cut_tokens,
    }


def _numbers(row: bytes) -> Sequence[float]:
    return struct.unpack(f"<{len(row) // 4}f", row)


def _usage(question: Question) -> understanding.UnderstandingUsage:
    return understanding.UnderstandingUsage(
        input_tokens=sum(each.num_tokens for each in question.inputs)
    )


def _timings(end: pb.Finished) -> understanding.UnderstandingTimings:
    return understanding.UnderstandingTimings(queued=end.timings.queued, total=end.timings.total)
