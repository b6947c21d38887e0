"""From tokens to text, as they come, and the stop texts in it.

Knows nothing of journals or engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

_REPLACEMENT = "\ufffd"
# A character has at most four bytes, so after this many tokens without one the
# bytes are not going to become a character any more.
_MAX_INCOMPLETE_TOKENS = 4
# Enough of the prompt for the first token to know what stands before it.
_CONTEXT_TOKENS = 6


class Detokenizer:
    """Turns one sequence's tokens into pieces of text.

    Decodes a short window twice, with and without the new tokens, and gives out
    the difference (the method of Text Generation Inference and vLLM): a token's
    text may depend on its neighbours, and a character may span tokens. The
    window is bounded, so the cost of a token does not grow with the sequence.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt_token_ids[-_CONTEXT_TOKENS:])
        self._known = self._decode(self._window)
        if self._known.endswith(_REPLACEMENT):  # the prompt ends within a character
            self._window, self._known = [], ""
        self._read = len(self._window)  # tokens of the window whose text is out

    def push(self, token_id: int) -> str:
        """The text that a token completes; empty while a character is incomplete."""
        self._window.append(token_id)
        text = self._decode(self._window)
        incomplete = text.endswith(_REPLACEMENT)
        if incomplete and len(self._window) - self._read < _MAX_INCOMPLETE_TOKENS:
            return ""
        return self._give_out(text)

    def flush(self) -> str:
        """The text of an incomplete character at the end of a sequence."""
        return self._give_out(self._decode(self._window))

    def _give_out(self, text: str) -> str:
        piece = text[len(self._known) :]
        if len(text) > len(self._known) or self._read < len(self._window):
            self._window = self._window[self._read :] or self._window
            self._read = len(self._window)
            self._known = self._decode(self._window)
        return piece

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown, and the stop text that ended it, if one did."""

    text: str
    stop: str | None = None


class StopTexts:
    """Looks for stop texts in a growing text and holds back what may become one.

    Cost of a piece: its length plus the longest stop text, whatever came before.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""

    def push(self, text: str) -> Piece:
        """The part that may be shown now; ends before the first stop text."""
        if not self._stops:
            return Piece(text)
        text = self._held + text
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, stop = min(found, key=lambda match: (match[0], -len(match[1])))
            self._held = ""
            return Piece(text[:at], stop)
        keep = self._length_to_hold(text)
        self._held = text[len(text) - keep :]
        return Piece(text[: len(text) - keep])

    def flush(self) -> str:
        """What was held back, when no more comes."""
        text, self._held = self._held, ""
        return text

    def _length_to_hold(self, text: str) -> int:
        for length in range(min(len(text), self._longest - 1), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
