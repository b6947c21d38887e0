"""What the chunks of a stream say, sorted by whose they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from miao_client.results import Answer, Chunk, Ending, Said, TokenLogprobs
from miao_client.tools import ToolCall, ToolCallDelta


@dataclass(slots=True)
class _Call:
    """A call and the pieces of its arguments: joined at the end, not at each of them."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def told(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self.arguments))


@dataclass(slots=True)
class _Part:
    """The chunks of the prompt, or of one answer."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        self.texts.append(chunk.text)
        self.token_ids.extend(chunk.token_ids)
        if chunk.logprobs:
            self.logprobs.extend(chunk.logprobs)
        if chunk.reasoning:
            self.reasoning.append(chunk.reasoning)
        for delta in chunk.tool_calls:
            self._add_call(delta)

    def said(self) -> Said:
        return Said(
            "".join(self.texts),
            tuple(self.token_ids),
            tuple(self.logprobs),
            "".join(self.reasoning),
            tuple(call.told() for call in self.calls),
        )

    def _add_call(self, delta: ToolCallDelta) -> None:
        """Calls come one after the other; one that began before the stream has no name here."""
        if delta.name or not self.calls:
            self.calls.append(_Call(delta.id, delta.name))
        self.calls[-1].arguments.append(delta.arguments_json)


class Transcript:
    """Collects chunks; gives the echoed prompt and the answers."""

    def __init__(self) -> None:
        self._prompt = _Part()
        self._answers: dict[int, _Part] = defaultdict(_Part)

    def add(self, chunk: Chunk) -> None:
        """Add what a chunk says."""
        part = self._prompt if chunk.is_prompt else self._answers[chunk.answer_index]
        part.add(chunk)

    def prompt(self) -> Said | None:
        """The echoed prompt; None if nothing of it came."""
        return self._prompt.said() if self._prompt.token_ids else None

    def answers(self, ending: Ending | None) -> tuple[Answer, ...]:
        """At least one: the best, the best first, where the ending names them; else all."""
        if ending is not None and ending.best:
            return tuple(self._answer(index, ending) for index in ending.best)
        count = max([1, *(index + 1 for index in self._answers)])
        if ending is not None:
            count = max(count, len(ending.answers))
        return tuple(self._answer(index, ending) for index in range(count))

    def _answer(self, index: int, ending: Ending | None) -> Answer:
        said = self._answers[index].said() if index in self._answers else Said("", ())
        ends = ending.answers if ending is not None else ()
        return Answer(
            said.text,
            said.token_ids,
            said.logprobs,
            said.reasoning,
            said.tool_calls,
            index=index,
            ending=ends[index] if index < len(ends) else None,
        )
