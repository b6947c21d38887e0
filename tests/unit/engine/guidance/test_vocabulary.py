"""A tokenizer's tokens as bytes."""

from __future__ import annotations

import pytest
from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.guidance.vocabulary import VocabularyError, load_vocabulary

from .conftest import TOKENIZER, VOCAB


def bundled() -> str:
    return (bundled_model_path() / "tokenizer.json").read_text("utf-8")


@pytest.mark.parametrize("text", [TOKENIZER.to_str(), bundled()])
def test_bytes_are_those_that_llguidance_reads(text):
    size = Tokenizer.from_str(text).get_vocab_size()
    ours, theirs = load_vocabulary(text, size, [0]), LLTokenizer(text, eos_token=[0])
    for token_id in range(size):
        assert ours.is_special_token(token_id) == theirs.is_special_token(token_id)
        assert ours.decode_bytes([token_id]) == theirs.decode_bytes([token_id])


@pytest.mark.parametrize("size", [VOCAB, VOCAB + 100, VOCAB - 40])
def test_the_mask_is_as_long_as_the_logits(size):
    vocabulary = load_vocabulary(TOKENIZER.to_str(), size, [0])
    assert vocabulary.vocab_size == size
    mask = LLMatcher(vocabulary, "start: /(?s:.*)/").compute_bitmask()
    allowed = [i for i in range(size) if mask[i // 8] >> (i % 8) & 1]
    assert max(allowed) < TOKENIZER.get_vocab_size()
    assert 0 in allowed  # the end
    assert 1 not in allowed  # the other special token


def sentencepiece() -> Tokenizer:
    vocab = {"<unk>": 0, "</s>": 1} | {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    vocab |= {"▁": 258, "a": 259, "▁a": 260}
    tokenizer = Tokenizer(models.BPE(vocab, [("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def test_byte_fallback_is_left_to_llguidance():
    vocabulary = load_vocabulary(sentencepiece().to_str(), 300, [1])
    assert vocabulary.decode_bytes([260]) == b" a"
    assert vocabulary.decode_bytes([2 + 0xE4]) == b"\xe4"


def test_a_tokenizer_of_words_is_refused():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(VocabularyError, match="cannot be read"):
        load_vocabulary(tokenizer.to_str(), 2, [0])
