"""A model's tokens as the bytes that they add to a text, for grammars to follow.

llguidance keeps them as a trie. It can read a serialised tokenizer by itself, but
takes seconds for one of 150,000 tokens and holds the interpreter's lock meanwhile;
handed the bytes it takes a tenth of that. So the common kind, byte-level BPE, is
turned into bytes here, and only the others are left to llguidance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper


class VocabularyError(ValueError):
    """Grammars cannot be followed with this tokenizer; the message says why."""


def load_vocabulary(
    tokenizer_json: str, vocab_size: int, eos_token_ids: Sequence[int]
) -> LLTokenizer:
    """The tokens of a tokenizer for logits of `vocab_size`.

    Args:
        tokenizer_json: as the tokenizers library serialises it.
        vocab_size: ids from the tokenizer's end up to here are never allowed.
        eos_token_ids: those that end a text; allowed where a grammar may end.

    Raises:
        VocabularyError: the tokenizer is of a kind that cannot be turned into bytes,
            or there is no token that ends a text.
    """
    if not eos_token_ids:
        raise VocabularyError("the model names no end-of-sequence token")
    description = json.loads(tokenizer_json)
    try:
        if _is_byte_level(description):
            tokens = _byte_level_tokens(description, vocab_size)
            special = _special_ids(description, eos_token_ids, vocab_size)
            wrapper = TokenizerWrapper(_Tokens(tokens, special, eos_token_ids[0]))
            return LLTokenizer(wrapper, eos_token=list(eos_token_ids))
        return LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=list(eos_token_ids))
    except (ValueError, RuntimeError) as error:
        raise VocabularyError(f"its tokenizer cannot be read as bytes: {error}") from error


class _Tokens:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], special: Iterable[int], eos_token_id: int) -> None:
        self.tokens = tokens
        self.special_token_ids = sorted(special)
        self.eos_token_id = eos_token_id
        self._ids = {token: token_id for token_id, token in enumerate(tokens) if len(token) == 1}

    def __call__(self, text: bytes | str) -> list[int]:
        """Some tokens of the text: one for each byte. Masks do not depend on it."""
        data = text.encode() if isinstance(text, str) else text
        return [
            self._ids[data[i : i + 1]] for i in range(len(data)) if data[i : i + 1] in self._ids
        ]


def _is_byte_level(description: dict[str, Any]) -> bool:
    """Whether tokens are written in the alphabet that GPT-2 gave to bytes."""
    decoder = description.get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    is_plain = {part.get("type") for part in parts} == {"ByteLevel"}
    return is_plain and (description.get("model") or {}).get("type") == "BPE"


def _byte_level_tokens(description: dict[str, Any], vocab_size: int) -> list[bytes]:
    tokens = [b""] * vocab_size
    table = _byte_of_character()
    for form, token_id in description["model"]["vocab"].items():
        if token_id < vocab_size:
            tokens[token_id] = _bytes_of(form, table)
    for added in description.get("added_tokens", []):
        if added["id"] < vocab_size:
            tokens[added["id"]] = added["content"].encode()
    return tokens


def _bytes_of(form: str, table: dict[str, int]) -> bytes:
    try:
        return bytes([table[character] for character in form])
    except KeyError:  # a token of another alphabet is its own text
        return form.encode()


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet (Radford et al., 2019): printable bytes stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def _special_ids(
    description: dict[str, Any], eos_token_ids: Sequence[int], vocab_size: int
) -> set[int]:
    added = description.get("added_tokens", [])
    special = {token["id"] for token in added if token.get("special")}
    return {i for i in special | set(eos_token_ids) if i < vocab_size}
