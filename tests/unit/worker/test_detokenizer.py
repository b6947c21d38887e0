"""Tokens to text: pieces join to the whole, stop texts end it wherever they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from miao_worker.bundled import bundled_model_path
from miao_worker.detokenizer import Detokenizer, StopTexts

TOKENIZER = Tokenizer.from_file(str(bundled_model_path() / "tokenizer.json"))


@given(st.text(max_size=40), st.text(max_size=10))
def test_pieces_join_to_the_whole_text(text: str, prompt: str) -> None:
    detokenizer = Detokenizer(TOKENIZER, TOKENIZER.encode(prompt).ids)
    ids = TOKENIZER.encode(text).ids
    pieces = [detokenizer.push(token_id) for token_id in ids]
    whole = "".join(pieces) + detokenizer.flush()
    assert whole == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_a_character_of_several_tokens_comes_when_it_is_complete() -> None:
    ids = TOKENIZER.encode("🦜").ids
    assert len(ids) > 1
    detokenizer = Detokenizer(TOKENIZER, [])
    assert [detokenizer.push(token_id) for token_id in ids] == [""] * (len(ids) - 1) + ["🦜"]


def test_an_incomplete_character_at_the_end_is_shown_as_broken() -> None:
    detokenizer = Detokenizer(TOKENIZER, [])
    assert detokenizer.push(TOKENIZER.encode("🦜").ids[0]) == ""
    assert detokenizer.flush() == "\ufffd"


@given(
    text=st.text(alphabet="abc", max_size=30),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(1, 5), max_size=30),
)
def test_a_stop_text_is_found_however_the_text_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    stop_texts, shown, rest = StopTexts(stops), "", text
    for size in [*cuts, len(text)]:
        piece = stop_texts.push(rest[:size])
        shown, rest = shown + piece.text, rest[size:]
        if piece.stop is not None:
            break
    else:
        shown += stop_texts.flush()
    if not any(stop in text for stop in stops):
        assert shown == text
        return
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert not any(stop in shown for stop in stops)
    assert text.startswith(shown)
    assert len(shown) <= max(ends)


@pytest.mark.parametrize(("stop", "shown"), [("cd", "ab"), ("ef", "abcd"), ("x", "abcdef")])
def test_what_may_become_a_stop_text_is_held_back(stop: str, shown: str) -> None:
    stop_texts = StopTexts([stop])
    pieces = [stop_texts.push(character) for character in "abcdef"]
    text = "".join(piece.text for piece in pieces[: len(shown) + len(stop)])
    assert text + (stop_texts.flush() if stop == "x" else "") == shown
