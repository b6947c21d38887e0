"""Divides what a model says in a conversation into thoughts, text and calls of functions.

    <think> thoughts </think>  text  <tool_call> call </tool_call>  text
    `---- reasoning --------'        `---- calls -------------'

It says the same however the text is cut. What may become a mark is held back
until that is decided. White space beside marks is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from miao.internal.v1.queue_pb2 import AnswerForm, ReasoningFormat
from miao_worker.call_reader import CallDelta, CallReader
from miao_worker.detokenizer import StopTexts


@dataclass(slots=True)
class Said:
    """What a piece of text brought."""

    text: str = ""
    reasoning: str = ""
    calls: list[CallDelta] = field(default_factory=list)


class AnswerReader:
    """Reads one answer from its beginning."""

    def __init__(self, form: AnswerForm) -> None:
        """`form` says what to look for; where it says nothing, all is text."""
        has_reasoning = form.HasField("reasoning")
        self._reasoning = (
            _ReasoningReader(form.reasoning, is_inside=form.starts_in_reasoning)
            if has_reasoning
            else None
        )
        self._calls = _CallFinder(form) if form.HasField("tools") else None

    @property
    def divides(self) -> bool:
        """Whether it looks for anything; else all is text."""
        return self._reasoning is not None or self._calls is not None

    def push(self, text: str) -> Said:
        """Read on."""
        said = Said()
        if self._reasoning is not None:
            said.reasoning, text = self._reasoning.push(text)
        self._answer(text, said)
        return said

    def flush(self) -> Said:
        """What was held back, when no more comes."""
        said, text = Said(), ""
        if self._reasoning is not None:
            said.reasoning, text = self._reasoning.flush()
        self._answer(text, said)
        if self._calls is not None:
            said.text += self._calls.flush()
        return said

    def _answer(self, text: str, said: Said) -> None:
        if self._calls is None:
            said.text = text
        elif text:
            said.text, said.calls = self._calls.push(text)


class _ReasoningReader:
    """Divides thoughts from what follows them; thoughts come first or not at all."""

    def __init__(self, form: ReasoningFormat, *, is_inside: bool) -> None:
        self._start = form.start
        self._end = StopTexts([form.end])
        self._is_inside = is_inside
        self._is_over = False
        self._before = ""  # what may become the mark of the thoughts
        self._thoughts = _Trimmed()
        self._answer_has_begun = False

    def push(self, text: str) -> tuple[str, str]:
        """The thoughts in it, and what follows them."""
        if not (self._is_inside or self._is_over):
            text = self._enter(text)
        if self._is_inside:
            piece = self._end.push(text)
            if piece.stop is None:
                return self._thoughts.push(piece.text), ""
            self._is_inside, self._is_over = False, True
            return self._thoughts.push(piece.text), self._answer(piece.rest)
        return "", self._answer(text) if self._is_over else ""

    def flush(self) -> tuple[str, str]:
        """What was held back."""
        if self._is_inside:
            return self._thoughts.push(self._end.flush()), ""
        return "", "" if self._is_over else self._before

    def _answer(self, text: str) -> str:
        """Without the line ends before it."""
        if not self._answer_has_begun:
            text = text.lstrip("\n")
            self._answer_has_begun = bool(text)
        return text

    def _enter(self, text: str) -> str:
        """Find out how the answer begins; returns what is behind the mark, or all without one."""
        self._before += text
        begin = self._before.lstrip()
        if begin.startswith(self._start):
            self._is_inside = True
            return begin[len(self._start) :]
        if self._start.startswith(begin):
            return ""
        self._is_over = self._answer_has_begun = True
        return self._before


class _Trimmed:
    """Text without the line ends before and behind it."""

    def __init__(self) -> None:
        self._has_begun = False
        self._held = ""

    def push(self, text: str) -> str:
        """The text but for the line ends that may be its last."""
        text = self._held + text
        if not self._has_begun:
            text = text.lstrip("\n")
        shown = text.rstrip("\n")
        self._held = text[len(shown) :]
        self._has_begun = self._has_begun or bool(shown)
        return shown


class _CallFinder:
    """Finds the calls in the text of an answer."""

    def __init__(self, form: AnswerForm) -> None:
        self._marks = StopTexts([form.tools.start] if form.tools.start else [])
        self._reader = CallReader(form.tool_names, form.tools.end)
        self._may_be_bare = form.tools.is_bare
        self._blank = ""  # white space that a mark may follow
        self._is_behind_call = False
        self._text: list[str] = []

    def push(self, text: str) -> tuple[str, list[CallDelta]]:
        """The text in it, and what it adds to calls."""
        while text:
            text = self._read_calls(text) if self._reader.is_reading else self._read_text(text)
        return self._take_text(), self._reader.take_deltas()

    def flush(self) -> str:
        """The text that was held back."""
        self._say(self._reader.take_raw() or self._marks.flush())
        if not self._reader.num_calls:
            self._text.append(self._blank)
        return self._take_text()

    def _read_text(self, text: str) -> str:
        """Read up to the beginning of calls; returns what stands behind it."""
        if self._may_be_bare and (begin := text.lstrip()):
            self._may_be_bare = False
            if begin[0] in "{[":
                self._reader.begin(self._blank + text[: -len(begin)])
                self._blank = ""
                return begin
        piece = self._marks.push(text)
        self._say(piece.text)
        if piece.stop is None:
            return ""
        self._reader.begin(self._blank + piece.stop)
        self._blank = ""
        return piece.rest

    def _read_calls(self, text: str) -> str:
        for at, char in enumerate(text):
            is_taken = self._reader.push(char)
            if not self._reader.is_reading:
                raw = self._reader.take_raw()
                self._is_behind_call = not raw
                self._say(raw)
                return text[at + is_taken :]
        return ""

    def _say(self, text: str) -> None:
        text = self._blank + text
        if self._is_behind_call:
            text = text.lstrip()
            self._is_behind_call = not text
        shown = text.rstrip()
        self._blank = text[len(shown) :]
        self._text.append(shown)

    def _take_text(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return text
