"""Words that must not be said become tokens, in each spelling that the tokenizer has for them."""

from __future__ import annotations

import pytest
from tests.unit.service.test_tokenization import byte_level, metaspace

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao_service import bad_words
from miao_service.bad_words import TokenSequence
from miao_service.errors import InvalidRequestError
from miao_service.tokenization import ModelTokenizer


def made(tokenizer: object) -> ModelTokenizer:
    return ModelTokenizer(ModelCard(name="tiny", tokenizer_json=tokenizer.to_str()))  # type: ignore[attr-defined]


def spelled(tokenizer: object, *words: str) -> list[list[str]]:
    model = made(tokenizer)
    found = bad_words.sequences(model, pb.GenerationSpec(bad_words=words))
    return [model.forms(each) for each in found]


def test_a_word_is_banned_behind_a_space_a_line_end_and_alone() -> None:
    assert spelled(byte_level(), "cat") == [["cat"], ["Ġcat"]]
    assert spelled(metaspace(), "cat") == [["cat"], ["▁cat"]]  # the first behind a line end
    many = spelled(byte_level(), "world, hello", "cat")
    assert len(many) == 4


def test_what_begins_with_a_space_is_taken_as_it_is() -> None:
    assert spelled(byte_level(), " cat") == [["Ġcat"]]


def test_what_another_bans_already_is_left_out() -> None:
    assert len(spelled(byte_level(), "春")) == 1  # it ends the spelling behind a space
    spec = pb.GenerationSpec()
    for ids in ([5, 6, 7], [6, 7], [6, 7], [7, 6], [9]):
        spec.bad_token_ids.add(ids=ids)
    expected: list[TokenSequence] = [(6, 7), (7, 6), (9,)]
    assert bad_words.sequences(made(byte_level()), spec) == expected


def test_what_looks_like_a_control_token_is_text() -> None:
    model = made(byte_level())
    found = bad_words.sequences(model, pb.GenerationSpec(bad_words=["<|im_end|>"]))
    assert all(len(each) > 1 for each in found)


def test_a_word_that_is_no_token_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidRequestError, match=r"spec\.bad_words\[1\]: must not hold"):
        spelled(byte_level(), "cat", "\ufdd0")
