"""From tokens to text, as they come, and the stop texts in it.

Knows nothing of journals or engines.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import Tokenizer

_REPLACEMENT = "\ufffd"
# Enough of the prompt for the first token to know what stands before it.
_CONTEXT_TOKENS = 6


class Detokenizer:
    """Turns one sequence's tokens into pieces of text.

    Decodes a short window twice, with and without the new tokens, and gives out
    the difference (the method of Text Generation Inference and vLLM): a token's
    text may depend on its neighbours, and a character may span tokens. The
    window is bounded, so the cost of a token does not grow with the sequence.

        window   | known, and shown      | pending: an incomplete character |
                                    _read

    Together the pieces are what the tokenizer makes of all tokens at once. One
    thing differs: where a run of byte tokens (`<0xE7>`) holds a wrong one, the
    tokenizer breaks all of the run; here its whole characters stay.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Sequence[int],
        shown: Collection[str] = (),
    ) -> None:
        """`shown` are special tokens that are text all the same."""
        self._tokenizer = tokenizer
        self._silent, self._byte_tokens = _silent_and_byte_tokens(tokenizer)
        self._shown = {i: text for i, text in self._silent.items() if text in shown}
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._may_hold_bytes = False
        self._window = [i for i in prompt_token_ids[-_CONTEXT_TOKENS:] if i not in self._silent]
        self._known = self._decode(self._window)
        if self._known.endswith(_REPLACEMENT):  # the prompt ends within a character
            self._window, self._known = [], ""
        self._read = len(self._window)  # tokens of the window whose text is out

    def push(self, token_id: int) -> str:
        """The text that a token completes; empty while a character is incomplete."""
        if token_id in self._silent:
            return self.flush() + self._shown[token_id] if token_id in self._shown else ""
        if token_id in self._byte_tokens:
            return self._push_byte(token_id)
        broken = self._broken_bytes()
        self._window.append(token_id)
        text = self._decode(self._window)
        if text.endswith(_REPLACEMENT):
            return broken + self._give_out_settled(text)
        return broken + self._give_out(text)

    def flush(self) -> str:
        """The text of an incomplete character at the end of a sequence."""
        return self._broken_bytes() + self._give_out(self._decode(self._window))

    def _broken_bytes(self) -> str:
        """What byte tokens say that did not become a character."""
        if not self._may_hold_bytes:
            return ""
        self._may_hold_bytes = False
        return self._bytes.decode(b"", final=True)

    def _push_byte(self, token_id: int) -> str:
        self._may_hold_bytes = True
        before = self._give_out(self._decode(self._window))
        self._window, self._read = [token_id], 1
        self._known = self._decode(self._window)
        return before + self._bytes.decode(self._byte_tokens[token_id])

    def _give_out_settled(self, text: str) -> str:
        """All but the incomplete character at the end.

        Two parts, decoded apart, say what they say together unless a character
        spans their border; where they do, all before the border is settled.
        """
        for border in range(len(self._window) - 1, self._read, -1):
            settled = self._decode(self._window[:border])
            if settled + self._decode(self._window[border:]) == text:
                piece = settled[len(self._known) :]
                self._window = self._window[self._read :]
                self._read = border - self._read
                self._known = self._decode(self._window[: self._read])
                return piece
        return ""

    def _give_out(self, text: str) -> str:
        piece = text[len(self._known) :]
        if self._read < len(self._window):
            self._window = self._window[self._read :]
            self._read = len(self._window)
            self._known = self._decode(self._window)
        return piece

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))


@lru_cache(8)
def _silent_and_byte_tokens(tokenizer: Tokenizer) -> tuple[Mapping[int, str], Mapping[int, bytes]]:
    """Tokens that say nothing, and those that stand for one byte each.

    GPT-2's tokens are of bytes too; there the tokenizer's own decoding joins them.
    """
    added = tokenizer.get_added_tokens_decoder()
    silent = {token_id: token.content for token_id, token in added.items() if token.special}
    letter = tokenizer.token_to_id("<0x41>")
    if letter is None or tokenizer.decode([letter]) != "A":
        return silent, {}
    ids = {byte: tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
    return silent, {i: bytes([byte]) for byte, i in ids.items() if i is not None}


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown; the stop text that ended it, if one did, and what stands behind."""

    text: str
    stop: str | None = None
    rest: str = ""


class StopTexts:
    """Looks for stop texts in a growing text and holds back what may become one.

    Cost of a piece: its length plus the longest stop text, whatever came before.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._beginnings = {stop[:end] for stop in stops for end in range(1, len(stop))}
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
            return Piece(text[:at], stop, text[at + len(stop) :])
        keep = self._length_to_hold(text)
        self._held = text[len(text) - keep :]
        return Piece(text[: len(text) - keep])

    def flush(self) -> str:
        """What was held back, when no more comes."""
        text, self._held = self._held, ""
        return text

    def _length_to_hold(self, text: str) -> int:
        for length in range(min(len(text), self._longest - 1), 0, -1):
            if text[-length:] in self._beginnings:
                return length
        return 0
