"""Where each token of an explained input stands in its text."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from miao.internal.v1.queue_pb2 import EncoderInput
from miao_service.encoder_tokenization import EncodedInput
from miao_service.explain_answers import classified_tokens, input_tokens


class Controls:
    """A tokenizer whose token 0 controls."""

    def is_control(self, token_id: int) -> bool:
        return token_id == 0


def places(texts: list[str]) -> list[tuple[int, int]]:
    tokens = input_tokens(range(len(texts)), texts, cast("Any", Controls()))
    assert [token.is_special for token in tokens] == [i == 0 for i in range(len(texts))]
    return [(token.start_byte, token.end_byte) for token in tokens]


def test_tokens_that_share_a_character_have_one_place() -> None:
    assert places(["a", "", "", "春", "b"]) == [(0, 1), (1, 4), (1, 4), (1, 4), (4, 5)]


def test_tokens_that_say_nothing_at_the_end_stand_there() -> None:
    assert places(["ab", "", ""]) == [(0, 2), (2, 2), (2, 2)]


@given(st.lists(st.text(max_size=3), min_size=1))
def test_places_cover_the_text_in_order(texts: list[str]) -> None:
    whole = "".join(texts).encode()
    found = list(dict.fromkeys(places(texts)))
    assert b"".join(whole[start:end] for start, end in found) == whole
    assert found == sorted(found)


def test_a_pairs_tokens_stand_in_their_own_text() -> None:
    encoded = EncodedInput(
        EncoderInput(token_ids=[1, 7, 2, 8, 2]),
        spans=[None, (1, 2), None, (0, 2), None],
        segments=[0, 0, 0, 1, 0],
    )
    forms = ["[CLS]", "春", "[SEP]", "ab", "[SEP]"]
    tokens = classified_tokens(encoded, ["美春", "ab"], forms)
    assert [(t.text, t.text_index, t.start_byte, t.end_byte, t.is_special) for t in tokens] == [
        ("[CLS]", 0, 0, 0, True),
        ("春", 0, 3, 6, False),
        ("[SEP]", 0, 0, 0, True),
        ("ab", 1, 0, 2, False),
        ("[SEP]", 0, 0, 0, True),
    ]
