"""What a worker's explanation means for the caller."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from miao.internal.v1.queue_pb2 import ExplanationResult
from miao.v1 import explain_service_pb2 as rpc
from miao.v1 import explanation_pb2 as explanation
from miao.v1 import generation_pb2 as pb
from miao.v1.understanding_pb2 import UnderstandingTimings
from miao_service.encoder_tokenization import EncodedInput
from miao_service.explain_resolution import Inquiry
from miao_service.tokenization import ModelTokenizer


def explained(
    request: rpc.ExplainRequest, inquiry: Inquiry, result: ExplanationResult, end: pb.Finished
) -> rpc.ExplainResponse:
    """The response to a request."""
    submission = inquiry.submission
    response = rpc.ExplainResponse(
        request_id=submission.request_id,
        model=submission.model,
        method=submission.job.explanation.method,
        output=result.output,
        attributions=result.attributions,
        timings=UnderstandingTimings(queued=end.timings.queued, total=end.timings.total),
    )
    if inquiry.encoded is None:
        token_ids = submission.job.prompt_token_ids
        response.texts.append("".join(result.input_texts))
        response.input.extend(input_tokens(token_ids, result.input_texts, inquiry.model.tokenizer))
        return response
    given = request.spec.classify
    response.texts.append(given.text)
    if given.HasField("text_pair"):
        response.texts.append(given.text_pair)
    forms = inquiry.model.tokenizer.forms(inquiry.encoded.input.token_ids)
    response.input.extend(classified_tokens(inquiry.encoded, response.texts, forms))
    names = inquiry.model.card.encoder.labels
    for attribution in response.attributions:
        attribution.label = names[result.label]
    scores = result.label_scores
    for label in sorted(range(len(scores)), key=lambda i: -scores[i]):
        response.labels.add(label=names[label], score=scores[label])
    return response


def input_tokens(
    token_ids: Sequence[int], texts: Sequence[str], tokenizer: ModelTokenizer
) -> list[explanation.InputToken]:
    """The tokens of a prompt with their places in the text that they spell.

    Those within a character come before the one that completes it and share its place.
    """
    ends = list(accumulate(len(text.encode()) for text in texts))
    tokens: list[explanation.InputToken] = []
    begin = 0  # of the place that the next completing token ends
    waiting: list[explanation.InputToken] = []
    for token_id, text, end in zip(token_ids, texts, ends, strict=True):
        token = explanation.InputToken(
            token_id=token_id,
            text=text,
            start_byte=begin,
            end_byte=end,
            is_special=tokenizer.is_control(token_id),
        )
        tokens.append(token)
        waiting.append(token)
        if text:
            for each in waiting:
                each.end_byte = end
            waiting, begin = [], end
    return tokens


def classified_tokens(
    encoded: EncodedInput, texts: Sequence[str], forms: Sequence[str]
) -> list[explanation.InputToken]:
    """The tokens of a classifier's input with their places in its texts."""
    offsets = [_byte_offsets(text) for text in texts]
    tokens = []
    rows = zip(encoded.input.token_ids, encoded.spans, encoded.segments, forms, strict=True)
    for token_id, span, segment, form in rows:
        if span is None:
            token = explanation.InputToken(token_id=token_id, text=form, is_special=True)
        else:
            start, end = span
            token = explanation.InputToken(
                token_id=token_id,
                text=texts[segment][start:end],
                text_index=segment,
                start_byte=offsets[segment][start],
                end_byte=offsets[segment][end],
            )
        tokens.append(token)
    return tokens


def _byte_offsets(text: str) -> list[int]:
    """Where each code point begins in UTF-8, and where the text ends."""
    return [0, *accumulate(len(character.encode()) for character in text)]
