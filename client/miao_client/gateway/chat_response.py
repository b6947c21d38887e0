"""A generation as a chat completion: whole, or in chunks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from miao_client.gateway.usage import finish_reason, finite, usage
from miao_client.results import Chunk, GenerationResult, Said, TokenLogprobs
from miao_client.tools import ToolCall, ToolCallDelta


class ChatCompletion:
    """Collects what one generation says, in the shapes of a chat completion."""

    def __init__(self, generation_id: str, model: str, logprobs: bool) -> None:
        self._head = {"id": generation_id, "created": int(time.time()), "model": model}
        self._with_logprobs = logprobs
        self._logprobs: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self._begun: set[int] = set()
        self._called: set[int] = set()

    def add(self, chunk: Chunk) -> None:
        """Keep of a chunk what the whole needs beside the result."""
        if self._with_logprobs:
            self._logprobs[chunk.answer_index] += token_logprobs(chunk)

    def whole(self, result: GenerationResult) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        choices = [
            {
                "index": position,
                "message": _message(answer),
                "logprobs": self._logprobs_of(self._logprobs[answer.index]),
                "finish_reason": finish_reason(result, answer, bool(answer.tool_calls)),
            }
            for position, answer in enumerate(result.answers)
        ]
        body = {**self._head, "object": "chat.completion", "choices": choices}
        return {**body, "usage": usage(result)}

    def opening(self) -> dict[str, Any]:
        """The beginning of a stream, which says who speaks and what the generation is called."""
        self._begun.add(0)
        return self._piece(0, {"role": "assistant", "content": ""})

    def pieces(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """What a chunk adds to a stream."""
        index = chunk.answer_index
        if index not in self._begun:
            self._begun.add(index)
            yield self._piece(index, {"role": "assistant", "content": ""})
        delta: dict[str, Any] = {}
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.tool_calls:
            self._called.add(index)
            delta["tool_calls"] = [_call_delta(each) for each in chunk.tool_calls]
        if delta or self._with_logprobs:
            logprobs = token_logprobs(chunk) if self._with_logprobs else []
            yield self._piece(index, delta, logprobs)

    def last_pieces(self, result: GenerationResult, with_usage: bool) -> Iterator[dict[str, Any]]:
        """What ends a stream."""
        for answer in result.answers:
            if answer.index not in self._begun:
                yield self._piece(answer.index, {"role": "assistant", "content": ""})
            reason = finish_reason(result, answer, answer.index in self._called)
            yield self._piece(answer.index, {}, reason=reason)
        if with_usage:
            yield {**self._head, **_CHUNK, "choices": [], "usage": usage(result)}

    def _piece(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: list[dict[str, Any]] | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        choice["logprobs"] = self._logprobs_of(logprobs) if logprobs else None
        return {**self._head, **_CHUNK, "choices": [choice]}

    def _logprobs_of(self, tokens: list[dict[str, Any]]) -> dict[str, Any] | None:
        return {"content": tokens, "refusal": None} if self._with_logprobs else None


_CHUNK = {"object": "chat.completion.chunk"}


def token_logprobs(chunk: Chunk) -> list[dict[str, Any]]:
    """Each token of a chunk with its log-probability and those of the likeliest."""
    return [
        {
            **_token(text, token.logprob),
            "top_logprobs": [_token(top.text, top.logprob) for top in token.top],
        }
        for token, text in zip(chunk.logprobs, token_texts(chunk), strict=True)
    ]


def token_texts(chunk: Chunk) -> list[str]:
    """What each token says: its share of the text, or where it has none there, its own text."""
    shares = chunk.token_texts or [""] * len(chunk.token_ids)
    pairs = zip(chunk.token_ids, chunk.logprobs, shares, strict=True)
    return [share or _own_text(token_id, logprobs) for token_id, logprobs, share in pairs]


def _own_text(token_id: int, logprobs: TokenLogprobs) -> str:
    return next((top.text for top in logprobs.top if top.token_id == token_id), "")


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": finite(logprob), "bytes": list(text.encode())}


def _message(said: Said) -> dict[str, Any]:
    calls = [_call(each) for each in said.tool_calls]
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
    if calls:
        message["content"] = said.text or None
        message["tool_calls"] = calls
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_json}
    return {"id": call.id, "type": "function", "function": function}


def _call_delta(delta: ToolCallDelta) -> dict[str, Any]:
    if not delta.name:
        return {"index": delta.index, "function": {"arguments": delta.arguments_json}}
    function = {"name": delta.name, "arguments": delta.arguments_json}
    return {"index": delta.index, "id": delta.id, "type": "function", "function": function}
