"""The text of one answer: tokens become characters, stop texts end it, marks divide it.

All of it follows from the tokens, one after the other, so another worker that
reads them in the journal goes on where this one was.
"""

from __future__ import annotations

import hashlib
import string

from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import AnswerForm, Job
from miao.v1 import generation_pb2 as pb
from miao_queue import events
from miao_worker.answer_reader import AnswerReader, Said
from miao_worker.detokenizer import Detokenizer, Piece, StopTexts

_ID_LETTERS = string.ascii_letters + string.digits
_ID_LENGTH = 9  # what the templates of Mistral ask for
_INNER_MARKS = ("[ARGS]", "[CALL_ID]")


class AnswerText:
    """Takes an answer's tokens and writes what they say into events.

    stop: the stop text that ended it, once one has.
    """

    def __init__(self, job: Job, tokenizer: Tokenizer, seed: int) -> None:
        """`seed` is the answer's own: ids of calls follow from it and the prompt."""
        self.stop: str | None = None
        self._origin = f"{events.digest(job.prompt_token_ids)}/{seed}"
        marks = _marks(job.answer_form)
        self._detokenizer = Detokenizer(tokenizer, job.prompt_token_ids, marks)
        self._stops = StopTexts(job.stop)
        self._reader = AnswerReader(job.answer_form)
        self._is_plain = not (job.stop or self._reader.divides)

    def push(self, token_id: int, event: pb.Tokens, *, may_stop: bool) -> None:
        """Read a token, which is the event's last, and write what it says."""
        text = self._detokenizer.push(token_id)
        if self._is_plain:
            event.text += text
            event.text_lengths.append(len(text))
            return
        piece = self._stops.push(text) if may_stop else Piece(text)
        said = self._reader.push(piece.text)
        event.text_lengths.append(0)
        self._write(said, event)
        if piece.stop is not None:
            self.stop = piece.stop
            self._write(self._reader.flush(), event)

    def flush(self, event: pb.Tokens) -> None:
        """Write what was held back to the last token of an event, if it has any."""
        if self.stop is not None:
            return
        piece = self._stops.push(self._detokenizer.flush())
        self.stop = piece.stop
        for said in (self._reader.push(piece.text + self._stops.flush()), self._reader.flush()):
            if event.token_ids:
                self._write(said, event)

    def _write(self, said: Said, event: pb.Tokens) -> None:
        index = len(event.token_ids) - 1
        event.text += said.text
        event.text_lengths[-1] += len(said.text)
        if said.reasoning:
            event.parts.add(token_index=index, reasoning=said.reasoning)
        for call in said.calls:
            delta = pb.ToolCallDelta(index=call.index, arguments_json=call.arguments)
            if call.name is not None:
                delta.id, delta.name = call_id(self._origin, call.index), call.name
            event.parts.add(token_index=index, tool_call=delta)


def call_id(origin: str, index: int) -> str:
    """The id of a call, the same at every attempt: nine letters and digits."""
    number = int.from_bytes(hashlib.sha256(f"{origin}/{index}".encode()).digest())
    letters = []
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, len(_ID_LETTERS))
        letters.append(_ID_LETTERS[digit])
    return "".join(letters)


def _marks(form: AnswerForm) -> frozenset[str]:
    """What is to be seen of special tokens."""
    reasoning = (form.reasoning.start, form.reasoning.end)
    calls = (form.tools.start, form.tools.end, *_INNER_MARKS)
    return frozenset(reasoning) | frozenset(calls if form.HasField("tools") else ())
