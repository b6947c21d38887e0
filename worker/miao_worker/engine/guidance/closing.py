"""Sees to it that an output is complete when its tokens are used up.

For each output an end is known: bytes that complete it from where it is, in no more
tokens than are left. A token after which no end would fit any more is not said; the
first of the known end is said in its place. So the form is always complete at
max_tokens, where it can be completed in them at all.

    said so far        known end    tokens left
    [1, 2              ]            3
    [1, 2, {           }]           1            does not fit: not said
    [1, 2]                          2            said instead, and complete

What is known follows from the tokens said and from nothing else, so an output that
goes on elsewhere goes on as it would have. Far from the last token the end is looked
at rarely, and then at each token: see `_next_look`.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from llguidance import LLMatcher, LLTokenizer

from miao_worker.engine.bans import Bans
from miao_worker.engine.guidance.shortest import Search, byte_matcher, literals_of

_MAX_WALKED_AT_START = 20_000  # bytes, once for a grammar, beside the steps
_MAX_WALKED = 2_000
_MAX_SUFFIXES = 64  # of the known end, tried behind a token that it does not foresee
_LONGEST_PIECE = 32  # bytes
_MAX_BYTES = 4_096  # of an end
_LEAST_GROWTH = 32  # tokens


class Spelling:
    """A text in the fewest tokens, and so each of its ends."""

    def __init__(self, text: bytes, steps: list[tuple[int, int, int] | None]) -> None:
        """steps: from each place: how many tokens, the first of them, where the next begins."""
        self.text = text
        self._steps = steps

    def token_ids(self, begin: int) -> list[int] | None:
        """The text's tokens from there on; None where it cannot be written in them."""
        token_ids = []
        while begin < len(self.text):
            step = self._steps[begin]
            if step is None:
                return None
            _, token_id, begin = step
            token_ids.append(token_id)
        return token_ids


class Speller:
    """Writes bytes in the fewest tokens of a vocabulary."""

    def __init__(self, vocabulary: LLTokenizer, vocab_size: int) -> None:
        self.pieces: list[bytes] = [
            b"" if vocabulary.is_special_token(i) else vocabulary.decode_bytes([i])
            for i in range(min(vocab_size, vocabulary.vocab_size))
        ]
        self._ids: dict[bytes, int] = {}
        for token_id, piece in enumerate(self.pieces):
            if 0 < len(piece) <= _LONGEST_PIECE:
                self._ids.setdefault(piece, token_id)
        self._longest = max(map(len, self._ids), default=0)

    def spell(self, text: bytes, banned: Items[int] = (), longest: int = 0) -> Spelling:
        """The text in tokens that are not banned, of at most `longest` bytes; 0: of any length."""
        longest = longest or self._longest
        steps: list[tuple[int, int, int] | None] = [None] * len(text)
        steps.append((0, 0, 0))
        for begin in range(len(text) - 1, -1, -1):
            for end in range(min(len(text), begin + longest), begin, -1):
                behind = steps[end]
                token_id = None if behind is None else self._ids.get(text[begin:end])
                if behind is None or token_id is None or token_id in banned:
                    continue
                known = steps[begin]
                if known is None or behind[0] + 1 < known[0]:
                    steps[begin] = (behind[0] + 1, token_id, end)
        return Spelling(text, steps)


@dataclass(frozen=True, slots=True)
class Closable:
    """A grammar by bytes, and a short text that it allows; no text where none was found."""

    matcher: LLMatcher
    end: bytes | None

    @classmethod
    def of(cls, grammar: str) -> Closable:
        matcher = byte_matcher(grammar)
        if matcher.is_error():
            return cls(matcher, None)
        search = Search(literals_of(grammar), _MAX_WALKED_AT_START)
        return cls(matcher, search.best(matcher, _MAX_BYTES))


@dataclass(frozen=True, slots=True)
class _View:
    """A state of the grammar, and an end that is known there."""

    matcher: LLMatcher
    spelling: Spelling
    begin: int  # of the end, in the spelling's text
    token_ids: list[int]  # the same

    @property
    def end(self) -> bytes:
        return self.spelling.text[self.begin :]


class Closing:
    """The known end of one output, from token to token."""

    def __init__(
        self,
        closable: Closable,
        speller: Speller,
        eos_token_id: int,
        bans: Bans,
        prompt_token_ids: Items[int],
        max_tokens: int,
    ) -> None:
        self._speller = speller
        self._eos_token_id = eos_token_id
        self._bans = bans
        self._said = list(prompt_token_ids)
        self._room = max_tokens  # tokens that may still be said
        self._unseen: list[int] = []  # said since the view was taken
        self._looked: tuple[int, _View | None] | None = None  # behind a token, not said yet
        self._view: _View | None = None
        if closable.end is not None:
            self._view = self._new(closable.matcher.deep_copy(), closable.end, self._said)
        self._growth = _LEAST_GROWTH + 2 * self.num_end_tokens
        self._wait = self._next_look()

    @property
    def is_known(self) -> bool:
        """Whether there is an end to keep room for."""
        return self._view is not None

    @property
    def num_end_tokens(self) -> int:
        """Those of the known end."""
        return 0 if self._view is None else len(self._view.token_ids)

    def choose(self, drawn: int) -> int:
        """The token to say: the one drawn, unless no end would fit behind it."""
        view = self._view
        if view is None or self._wait > 1 or self._unseen:
            return drawn
        known = view.token_ids[0] if view.token_ids else self._eos_token_id
        if drawn in (known, self._eos_token_id):
            return drawn
        if len(view.token_ids) >= self._room:
            return known if len(view.token_ids) == self._room else drawn
        behind = self._look(drawn)
        fits = behind is not None and len(behind.token_ids) < self._room
        return drawn if fits else known

    def follow(self, token_id: int) -> None:
        """Go on by a token that was said."""
        if self._view is None:
            return
        self._wait -= 1
        if self._wait <= 0:
            self._view = self._look(token_id)
            self._unseen = []
        else:
            self._unseen.append(token_id)
        self._looked = None
        self._said.append(token_id)
        self._room -= 1
        if self._wait <= 0:
            self._wait = self._next_look()

    def _next_look(self) -> int:
        """In how many tokens to look again.

        An end grows by what a token opens: by a few tokens mostly, by all of a form's
        required parts at worst. So much may come, for each token, until the next look.
        """
        return max(1, (self._room - self.num_end_tokens) // self._growth)

    def _look(self, token_id: int) -> _View | None:
        """What would be known behind a token; None where no end is found."""
        if self._looked is not None and self._looked[0] == token_id:
            return self._looked[1]
        assert self._view is not None
        pieces = [self._speller.pieces[each] for each in (*self._unseen, token_id)]
        text = b"".join(pieces)
        matcher = self._view.matcher.deep_copy()
        found: _View | None = None
        if all(pieces) and matcher.consume_tokens(list(text)):
            found = self._behind(text, matcher, [*self._said[-128:], token_id])
        self._looked = (token_id, found)
        return found

    def _behind(self, text: bytes, matcher: LLMatcher, said: list[int]) -> _View | None:
        """An end behind a text: what is left of the known one, or another."""
        assert self._view is not None
        view, known = self._view, self._view.end
        begins = [len(text)] if known.startswith(text) else []
        begins.append(0)
        if len(known) <= _MAX_SUFFIXES:
            begins += range(len(known), 0, -1)
        for begin in begins:
            if _completes(matcher, known[begin:]):
                found = self._written(matcher, view.spelling, view.begin + begin, said)
                return found or self._new(matcher, known[begin:], said)
        end = Search((), _MAX_WALKED).first(matcher, _MAX_BYTES)
        return None if end is None else self._new(matcher, end, said)

    def _new(self, matcher: LLMatcher, end: bytes, said: list[int]) -> _View | None:
        """The view of an end; None where that cannot be written, or must not."""
        for longest in (0, 1):
            spelling = self._speller.spell(end, self._bans.always, longest)
            found = self._written(matcher, spelling, 0, said)
            if found is not None:
                return found
        return None

    def _written(
        self, matcher: LLMatcher, spelling: Spelling, begin: int, said: list[int]
    ) -> _View | None:
        token_ids = spelling.token_ids(begin)
        if token_ids is None or self._bans.are_in(said, token_ids):
            return None
        return _View(matcher, spelling, begin, token_ids)


def _completes(matcher: LLMatcher, end: bytes) -> bool:
    if not end:
        return matcher.is_accepting()
    trial = matcher.deep_copy()
    return trial.try_consume_tokens(list(end)) == len(end) and trial.is_accepting()
