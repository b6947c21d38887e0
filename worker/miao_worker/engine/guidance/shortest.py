"""Looks for a short text that completes what a grammar has begun.

A first way is walked byte by byte, always by what closes something where that is
allowed: of JSON this alone is nearly the shortest. Then other choices on that way
are tried, each gone on with in the same manner, and the shortest end is taken:

    [1, {"a": "te           the first way       "}]
    "complaint" | "no"      the first way       complaint
                            another choice      no

So what is found completes the grammar, and is seldom longer than need be. Nothing may
be found where no choice is a step towards an end. The same state leads to the same
text: work is counted in bytes walked, and not timed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

_END = 256  # the token that ends a text; those below it are bytes
_MANY = 64  # bytes that may follow: more are free text, whose end is then sought first
_LIMITS = LLParserLimits(verbose_errors=False)
_MAX_LITERALS = 16
_MAX_CHOICES = 8  # that are tried instead at one place

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _order(first: bytes) -> tuple[int, ...]:
    whole = first + _ALPHABET + bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100)) + b" \n\t\r"
    return tuple(dict.fromkeys(whole + bytes(range(256))))


_IN_STRUCTURE = _order(b'}])>",:')
_IN_TEXT = _order(b'"<')
_INSTEAD_IN_TEXT = _order(b"\"'<)]}>,:@/-. \n")


class _Bytes:
    """A vocabulary of bytes, for llguidance."""

    bos_token_id = None
    eos_token_id = _END
    special_token_ids = (_END,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


_VOCABULARY: list[LLTokenizer] = []


def byte_matcher(grammar: str) -> LLMatcher:
    """Follows a grammar by bytes: its tokens below 256."""
    if not _VOCABULARY:
        _VOCABULARY.append(LLTokenizer(TokenizerWrapper(_Bytes()), eos_token=[_END], slices=[]))
    return LLMatcher(_VOCABULARY[0], grammar, log_level=0, limits=_LIMITS)


class Search:
    """One search, and how much it may still do."""

    def __init__(self, literals: Sequence[bytes], max_walked: int) -> None:
        """`literals`: longer pieces that may be needed behind free text."""
        self._literals = literals
        self._left = max_walked  # bytes

    def first(self, matcher: LLMatcher, max_bytes: int) -> bytes | None:
        """The first way to an end, of at most so many bytes."""
        path = bytearray()
        state = matcher.deep_copy()
        while not state.is_accepting():
            move = bytes(state.compute_ff_bytes()) or _best(state)
            self._left -= len(move)
            if not move or len(path) + len(move) > max_bytes or self._left < 0:
                return None
            if not state.consume_tokens(list(move)):
                return None
            path += move
        return bytes(path)

    def best(self, matcher: LLMatcher, max_bytes: int) -> bytes | None:
        """A short end, of at most so many bytes."""
        found = self.first(matcher, max_bytes)
        while self._left > 0:
            shorter = self._other(matcher, found, max_bytes)
            if shorter is None:
                break
            found = shorter
        return found

    def _other(self, matcher: LLMatcher, known: bytes | None, max_bytes: int) -> bytes | None:
        """A shorter end by another choice at one place of the way that is known."""
        way = known
        if way is None:  # where that leads nowhere, its beginning may still be right
            way = self._beginning(matcher)
        most = max_bytes if known is None else len(known) - 1
        found: bytes | None = None
        state = matcher.deep_copy()
        for place, byte in enumerate(way):
            if place >= most or self._left <= 0:
                break
            if not state.compute_ff_bytes():
                for move in self._choices(state, byte):
                    rest = self._behind(state, move, most - place)
                    if rest is not None:
                        found = way[:place] + move + rest
                        most = len(found) - 1
            state.consume_token(byte)
        return found

    def _beginning(self, matcher: LLMatcher) -> bytes:
        """The first bytes of a way that has no end in reach."""
        path, state = bytearray(), matcher.deep_copy()
        while len(path) < _MAX_CHOICES:
            move = bytes(state.compute_ff_bytes()) or _best(state)
            if not move or not state.consume_tokens(list(move)):
                break
            path += move
        return bytes(path)

    def _behind(self, state: LLMatcher, move: bytes, most: int) -> bytes | None:
        after = state.deep_copy()
        self._left -= len(move)
        if len(move) > most or after.try_consume_tokens(list(move)) != len(move):
            return None
        return self.first(after, most - len(move))

    def _choices(self, state: LLMatcher, known: int) -> Iterator[bytes]:
        """What may stand there in place of the byte: bytes that differ in what follows them."""
        mask = int.from_bytes(state.compute_bitmask()[:32], "little")
        is_text = mask.bit_count() > _MANY
        seen = {_after(state, known)}
        tried = 0
        for byte in _INSTEAD_IN_TEXT if is_text else _IN_STRUCTURE:
            if mask >> byte & 1 and byte != known:
                tried += 1
                follows = _after(state, byte)
                self._left -= 1
                if follows not in seen:
                    seen.add(follows)
                    yield bytes([byte])
                if len(seen) > _MAX_CHOICES or tried > 4 * _MAX_CHOICES:
                    break
        if is_text:
            yield from self._literals


def _best(state: LLMatcher) -> bytes:
    """The byte to go on with; none where nothing is allowed."""
    mask = int.from_bytes(state.compute_bitmask()[:32], "little")
    if not mask:
        return b""
    order = _IN_TEXT if mask.bit_count() > _MANY else _IN_STRUCTURE
    return bytes([next(byte for byte in order if mask >> byte & 1)])


def _after(state: LLMatcher, byte: int) -> bytes:
    """What may follow a byte: equal where nothing tells two bytes apart so far."""
    after = state.deep_copy()
    after.consume_token(byte)
    return (
        b"." if after.is_accepting() else bytes(after.compute_ff_bytes() or after.compute_bitmask())
    )


def literals_of(grammar: str) -> tuple[bytes, ...]:
    """Texts within a grammar that an end of free text may need, such as a closing mark."""
    if grammar.startswith("{"):
        return ()  # JSON, which needs none but its own marks
    found: dict[bytes, None] = {}
    for quoted in re.findall(r'"(?:[^"\\]|\\.)*"', grammar):
        try:
            text = str(json.loads(quoted)).encode()
        except ValueError:
            continue
        if 2 <= len(text) <= 64:
            found[text] = None
    for run in re.findall(r"[\w ,;:!?<>#-]{2,64}", grammar):
        found[run.encode()] = None
    return tuple(found)[:_MAX_LITERALS]
