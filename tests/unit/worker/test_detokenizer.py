"""Tokens to text: pieces join to the whole, stop texts end it wherever they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from miao_worker.bundled import bundled_model_path
from miao_worker.detokenizer import Detokenizer, StopTexts

TOKENIZER = Tokenizer.from_file(str(bundled_model_path() / "tokenizer.json"))


def byte_fallback() -> Tokenizer:
    """As Llama 2's: pieces, and a token for each byte."""
    forms = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "b", "é", "秒"]
    vocabulary = {form: index for index, form in enumerate(forms)}
    made = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens(["<unk>", "<s>"])
    return made


SENTENCE_PIECES = byte_fallback()


def pieces_of(tokenizer: Tokenizer, ids: list[int], prompt: list[int]) -> str:
    detokenizer = Detokenizer(tokenizer, prompt)
    return "".join([detokenizer.push(token_id) for token_id in ids]) + detokenizer.flush()


@given(st.text(max_size=40), st.text(max_size=10))
def test_pieces_join_to_the_whole_text(text: str, prompt: str) -> None:
    detokenizer = Detokenizer(TOKENIZER, TOKENIZER.encode(prompt).ids)
    ids = TOKENIZER.encode(text).ids
    pieces = [detokenizer.push(token_id) for token_id in ids]
    whole = "".join(pieces) + detokenizer.flush()
    assert whole == TOKENIZER.decode(ids, skip_special_tokens=True)


SINGLE_BYTES = [i for i in range(TOKENIZER.get_vocab_size()) if len(TOKENIZER.id_to_token(i)) == 1]
ANY_TOKENS = st.integers(0, TOKENIZER.get_vocab_size() - 1)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(SINGLE_BYTES) | ANY_TOKENS, max_size=12))
def test_pieces_of_any_tokens_join_to_what_the_tokenizer_makes_of_all(ids: list[int]) -> None:
    assert pieces_of(TOKENIZER, ids, [5]) == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_a_character_begun_behind_a_broken_one_is_not_lost() -> None:
    ids = [TOKENIZER.token_to_id(form) for form in ("¹", "ò", "¼", "·", "Ģ")]
    assert pieces_of(TOKENIZER, ids, []) == "\ufffd\U000bcdc0"


@given(st.lists(st.text(alphabet="ab é秒𝄞\n<>", max_size=3), max_size=6), st.data())
def test_pieces_of_byte_tokens_join_to_the_whole(texts: list[str], data: st.DataObject) -> None:
    ids, whole = [], "".join(texts)
    for letter in whole:
        own = SENTENCE_PIECES.token_to_id(letter.replace(" ", "▁"))
        as_bytes = [2 + byte for byte in letter.encode()]
        ids += [own] if own is not None and data.draw(st.booleans()) else as_bytes
    prompt = [SENTENCE_PIECES.token_to_id("b")]
    assert pieces_of(SENTENCE_PIECES, ids, prompt) == whole


def test_a_wrong_byte_breaks_no_other_character() -> None:
    ids = [2 + byte for byte in "秒".encode() + b"\x9d" + "é".encode()[:1]]
    ids.append(SENTENCE_PIECES.token_to_id("▁a"))
    assert pieces_of(SENTENCE_PIECES, ids, []) == "秒\ufffd\ufffd a"


def test_a_special_token_says_nothing_and_divides_nothing() -> None:
    first, *rest = TOKENIZER.encode("🦜").ids
    assert pieces_of(TOKENIZER, [first, 0, *rest], []) == "🦜"


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
