"""The events of a journal: composing and reading their bytes.

An entry holds a serialized `GenerateResponse`, which is on the wire the same as
a `FollowGenerationResponse`, so a front relays it as it is.
"""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from miao.v1 import generation_pb2 as pb
from miao.v1.generation_service_pb2 import GenerateResponse

FIELD = b"e"  # of the stream entry


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a journal: after so many tokens, and whether after the end."""

    tokens: int
    ended: bool = False

    @classmethod
    def of_entry(cls, entry_id: bytes) -> Position:
        """The place behind the entry with this id."""
        tokens, _, part = entry_id.partition(b"-")
        return cls(int(tokens), part == b"1")

    @property
    def entry_id(self) -> str:
        """The id that XREAD continues from; entries behind it are those not seen."""
        return f"{self.tokens}-{int(self.ended)}"


def accepted(accepted: pb.Accepted) -> bytes:
    """The first event of every stream; fronts compose it, journals do not hold it."""
    return _encode(pb.GenerationEvent(accepted=accepted))


def digest(token_ids: Sequence[int], start: int = 0) -> int:
    """The `output_digest` after these tokens, which follow those that `start` is of."""
    if len(token_ids) == 1:  # as nearly all events have
        return zlib.crc32(token_ids[0].to_bytes(4, "little"), start)
    return zlib.crc32(struct.pack(f"<{len(token_ids)}I", *token_ids), start)


def tokens(sequence_number: int, attempt: int, tokens: pb.Tokens, output_digest: int) -> bytes:
    """An event of new tokens, the last of which has the sequence number."""
    return _encode(
        pb.GenerationEvent(
            sequence_number=sequence_number,
            attempt=attempt,
            tokens=tokens,
            output_digest=output_digest,
        )
    )


def seal(draft: GenerateResponse, sequence_number: int, attempt: int, output_digest: int) -> bytes:
    """As `tokens`, of an event whose tokens were written where they are sent from: no copies."""
    event = draft.event
    event.sequence_number = sequence_number
    event.attempt = attempt
    event.output_digest = output_digest
    return draft.SerializeToString()


def finished(sequence_number: int, attempt: int, finished: pb.Finished) -> bytes:
    """The terminal event."""
    return _encode(
        pb.GenerationEvent(sequence_number=sequence_number, attempt=attempt, finished=finished)
    )


def decode(payload: bytes) -> pb.GenerationEvent:
    """The event in a journal entry."""
    return GenerateResponse.FromString(payload).event


def after(payload: bytes, sequence_number: int) -> bytes | None:
    """The part of an event that lies behind a sequence number.

    None if nothing does. An event that straddles it, as a second attempt may
    write, loses its first tokens and their share of the text.
    """
    event = decode(payload)
    if not event.HasField("tokens"):
        return payload
    first = event.sequence_number - len(event.tokens.token_ids)
    if first >= sequence_number:
        return payload
    if event.sequence_number <= sequence_number:
        return None
    _drop_tokens(event.tokens, sequence_number - first)
    return _encode(event)


def output(payloads: Iterable[bytes]) -> pb.Output:
    """All that a journal's entries say together."""
    prompt, answers = _Said(), defaultdict[int, _Said](_Said)
    for payload in payloads:
        tokens = decode(payload).tokens
        if tokens.token_ids:
            (prompt if tokens.is_prompt else answers[tokens.answer_index]).add(tokens)
    first = answers.pop(0, _Said()).saying()
    return pb.Output(
        text=first.text,
        token_ids=first.token_ids,
        reasoning=first.reasoning,
        tool_calls=first.tool_calls,
        prompt=prompt.saying() if prompt.token_ids else None,
        others=[answers[index].saying() for index in sorted(answers)],
    )


@dataclass(slots=True)
class _Said:
    """The pieces of one answer: joined at the end, for a text that grows is copied each time."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[pb.ToolCall] = field(default_factory=list)
    arguments: list[list[str]] = field(default_factory=list)  # of each call

    def add(self, tokens: pb.Tokens) -> None:
        self.texts.append(tokens.text)
        self.token_ids.extend(tokens.token_ids)
        for part in tokens.parts:
            self.reasoning.append(part.reasoning)
            if part.HasField("tool_call"):
                self._add_call(part.tool_call)

    def _add_call(self, delta: pb.ToolCallDelta) -> None:
        if delta.index == len(self.calls):
            self.calls.append(pb.ToolCall(id=delta.id, name=delta.name))
            self.arguments.append([])
        self.arguments[delta.index].append(delta.arguments_json)

    def saying(self) -> pb.Saying:
        for call, arguments in zip(self.calls, self.arguments, strict=True):
            call.arguments_json = "".join(arguments)
        return pb.Saying(
            text="".join(self.texts),
            token_ids=self.token_ids,
            reasoning="".join(self.reasoning),
            tool_calls=self.calls,
        )


def _drop_tokens(tokens: pb.Tokens, count: int) -> None:
    tokens.text = tokens.text[sum(tokens.text_lengths[:count]) :]
    del tokens.token_ids[:count], tokens.logprobs[:count], tokens.text_lengths[:count]
    parts = [part for part in tokens.parts if part.token_index >= count]
    for part in parts:
        part.token_index -= count
    del tokens.parts[:]
    tokens.parts.extend(parts)


def _encode(event: pb.GenerationEvent) -> bytes:
    return GenerateResponse(event=event).SerializeToString()
