"""What must not be said becomes token sequences that must not be drawn.

A word is other tokens behind a space than at the beginning of a text, and with some
tokenizers at the beginning of a line:

    "word"    word         alone
    "word"    _word        behind a space
    "word"    wo rd        behind a line end, where the tokenizer puts a space before all text
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from miao.v1 import generation_pb2 as pb
from miao_service.errors import InvalidRequestError, Violation
from miao_service.models import ServedModel
from miao_service.tokenization import ModelTokenizer

_LINE_END = "\n"

TokenSequence = tuple[int, ...]


def sequences(tokenizer: ModelTokenizer, spec: pb.GenerationSpec) -> list[TokenSequence]:
    """All that a spec bans, each once, without those that hold another.

    Raises InvalidRequestError for a word that is no token at all.
    """
    found = {tuple(each.ids) for each in spec.bad_token_ids}
    for index, word in enumerate(spec.bad_words):
        found.update(_spellings(tokenizer, word, f"spec.bad_words[{index}]"))
    return sorted(_without_longer(found))


def violations(model: ServedModel, spec: pb.GenerationSpec) -> Iterator[Violation]:
    """What of it would ban the end of a sequence."""
    for index, each in enumerate(spec.bad_token_ids):
        if len(each.ids) == 1 and each.ids[0] in model.card.eos_token_ids:
            yield Violation(
                f"spec.bad_token_ids[{index}]",
                "must not be the model's end of sequence alone: see ignore_eos and min_tokens",
            )


def _spellings(tokenizer: ModelTokenizer, word: str, field: str) -> set[TokenSequence]:
    texts = [word] if word[0].isspace() else [word, f" {word}"]
    found = {tuple(tokenizer.encode_text(text, field)) for text in texts}
    if not word[0].isspace():
        line_end = tokenizer.encode_text(_LINE_END, field)
        line = tokenizer.encode_text(_LINE_END + word, field)
        if line[: len(line_end)] == line_end:
            found.add(tuple(line[len(line_end) :]))
    found.discard(())
    if not found:
        raise InvalidRequestError.of(field, "is no token of the model's tokenizer")
    return found


def _without_longer(found: Iterable[TokenSequence]) -> Iterator[TokenSequence]:
    """Those that do not end in another one, without which they cannot be said anyway."""
    all_of_them = set(found)
    for each in all_of_them:
        if not any(each[start:] in all_of_them for start in range(1, len(each))):
            yield each
