"""Generations as completions of plain prompts: whole, or in chunks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from miao_client.gateway.chat_response import token_texts
from miao_client.gateway.completion_request import CompletionRequest
from miao_client.gateway.usage import finish_reason, finite, summed, usage
from miao_client.results import Chunk, GenerationResult, TokenLogprobs

PROMPT = -1  # in place of an answer's index


@dataclass(slots=True)
class _Logprobs:
    """OpenAI's lists of an answer's tokens, as far as they have come."""

    offset: int = 0  # of the next token in the text
    begun: bool = False  # whether there is a token already
    texts: list[str] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    top: list[dict[str, float] | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        shares = chunk.token_texts or ("",) * len(chunk.token_ids)
        first = chunk.is_prompt and not self.begun  # nothing stands before it
        self.begun = True
        pairs = zip(token_texts(chunk), shares, chunk.logprobs, strict=True)
        for text, share, token in pairs:
            self.texts.append(text)
            self.logprobs.append(None if first else finite(token.logprob))
            self.top.append(None if first else _likeliest(token))
            self.offsets.append(self.offset)
            self.offset += len(share)
            first = False

    def after(self, prompt: _Logprobs) -> _Logprobs:
        """These behind those of the echoed prompt."""
        return _Logprobs(
            prompt.offset + self.offset,
            True,
            prompt.texts + self.texts,
            prompt.logprobs + self.logprobs,
            prompt.top + self.top,
            prompt.offsets + [prompt.offset + each for each in self.offsets],
        )

    def said(self) -> dict[str, Any]:
        return {
            "tokens": self.texts,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        }


def _likeliest(token: TokenLogprobs) -> dict[str, float]:
    return {top.text: finite(top.logprob) for top in token.top}


class Completion:
    """Collects what one prompt's generation says; `position` is the prompt's in the request."""

    def __init__(self, asked: CompletionRequest, position: int) -> None:
        self.first_choice = position * asked.num_answers
        self._asked = asked
        self._logprobs: dict[int, _Logprobs] = defaultdict(_Logprobs)

    def add(self, chunk: Chunk) -> None:
        """Keep of a chunk what the whole needs beside the result."""
        if self._asked.logprobs:
            self._logprobs[PROMPT if chunk.is_prompt else chunk.answer_index].add(chunk)

    def choices(self, result: GenerationResult) -> Iterator[dict[str, Any]]:
        """The answers to the prompt."""
        prompt = result.prompt.text if result.prompt is not None else ""
        for place, answer in enumerate(result.answers):
            logprobs = self._logprobs[answer.index].after(self._logprobs[PROMPT])
            yield {
                "index": self.first_choice + place,
                "text": prompt + answer.text,
                "logprobs": logprobs.said() if self._asked.logprobs else None,
                "finish_reason": finish_reason(result, answer),
            }

    def pieces(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """What a chunk adds to a stream; the prompt belongs to each answer."""
        answers = range(self._asked.num_answers) if chunk.is_prompt else [chunk.answer_index]
        for index in answers:
            yield {
                "index": self.first_choice + index,
                "text": chunk.text,
                "logprobs": self._piece_of_logprobs(index, chunk),
                "finish_reason": None,
            }

    def endings(self, result: GenerationResult) -> Iterator[dict[str, Any]]:
        """How each answer of a stream ended."""
        for answer in result.answers:
            reason = finish_reason(result, answer)
            index = self.first_choice + answer.index
            yield {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    def _piece_of_logprobs(self, index: int, chunk: Chunk) -> dict[str, Any] | None:
        if not self._asked.logprobs:
            return None
        # What has come is not kept: a piece says where it begins, and no more.
        known = self._logprobs[index]
        piece = _Logprobs(known.offset, begun=known.begun)
        piece.add(chunk)
        known.offset, known.begun = piece.offset, True
        return piece.said()


class Head:
    """What every body of one answer has in common."""

    def __init__(self, generation_ids: Sequence[str], model: str) -> None:
        # Several prompts are several generations: the first names the answer.
        self._head: dict[str, Any] = {
            "id": generation_ids[0],
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        if len(generation_ids) > 1:
            self._head["generation_ids"] = list(generation_ids)

    def whole(
        self, choices: list[dict[str, Any]], results: Sequence[GenerationResult]
    ) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        return {**self._head, "choices": choices, "usage": summed([usage(r) for r in results])}

    def piece(self, choice: dict[str, Any]) -> dict[str, Any]:
        """One piece of a stream."""
        return {**self._head, "choices": [choice]}

    def usage(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        """The piece that says what a stream took."""
        return {**self._head, "choices": [], "usage": summed([usage(r) for r in results])}
