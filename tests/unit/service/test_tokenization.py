"""Tokenizing: as the model's own library does it, and no caller writes a control token."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao_service.errors import InvalidRequestError
from miao_service.tokenization import ModelTokenizer

CONTROLS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]"]
CORPUS = ["the cat sat on the mat; user and assistant say hello world, <, |, im_end and start"] * 9
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Joins what callers wrote without anything between.
JOINED = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}[INST]"


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=CONTROLS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    return made


def metaspace() -> Tokenizer:
    """As Llama 2's: a space is a character, one is put in front, unknown bytes have tokens."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", *CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return without_byte_specials(made)


def without_byte_specials(made: Tokenizer) -> Tokenizer:
    content = json.loads(made.to_str())
    content["added_tokens"] = [
        token for token in content["added_tokens"] if not token["content"].startswith("<0x")
    ]
    return Tokenizer.from_str(json.dumps(content))


def normalizing() -> Tokenizer:
    """A control token that is matched after normalization."""
    made = byte_level()
    made.normalizer = normalizers.NFKC()
    made.add_special_tokens([AddedToken("<|stop|>", normalized=True)])
    return made


TOKENIZERS = {"byte_level": byte_level(), "metaspace": metaspace(), "normalizing": normalizing()}


def model(name: str = "byte_level", template: str = CHATML, **changes: Any) -> ModelTokenizer:
    return ModelTokenizer(
        ModelCard(
            name="m",
            tokenizer_json=TOKENIZERS[name].to_str(),
            chat_template=template,
            special_tokens={"bos_token": "<s>", "eos_token": "</s>"},
            **changes,
        )
    )


def chat(*contents: str) -> pb.Chat:
    return pb.Chat(messages=[pb.ChatMessage(role=pb.ROLE_USER, content=c) for c in contents])


def control_ids(name: str) -> set[int]:
    made = TOKENIZERS[name]
    found = {made.token_to_id(text) for text in [*CONTROLS, "<|stop|>"]}
    return {token_id for token_id in found if token_id is not None}


MODELS = {
    (name, template): model(name, template) for name in TOKENIZERS for template in (CHATML, JOINED)
}
PIECES = st.sampled_from(
    [
        *CONTROLS,
        "<|stop|>",
        "＜|stop|>",
        "<",
        "|",
        ">",
        "<|im_",
        "end|>",
        "im_end",
        " ",
        "\n",
        "cat ",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


@given(st.sampled_from(sorted(TOKENIZERS)), st.lists(TEXTS, min_size=1, max_size=4))
def test_no_caller_writes_a_control_token_into_a_conversation(
    name: str, contents: list[str]
) -> None:
    controls = control_ids(name)
    for template in (CHATML, JOINED):
        tokenizer = MODELS[name, template]
        try:
            ids = tokenizer.encode_chat(chat(*contents), "chat").token_ids
        except InvalidRequestError:
            assert any("\ufdd0" <= letter <= "\ufdef" for text in contents for letter in text)
            continue
        own = 2 * len(contents) + 1 if template == CHATML else 2
        assert sum(token_id in controls for token_id in ids) == own
        harmless = tokenizer.encode_chat(chat(*("a" for _ in contents)), "chat").token_ids
        in_order = [token_id for token_id in ids if token_id in controls]
        assert in_order == [token_id for token_id in harmless if token_id in controls]


@given(st.sampled_from(sorted(TOKENIZERS)), TEXTS)
def test_no_caller_writes_a_control_token_into_a_prompt(name: str, text: str) -> None:
    if any("\ufdd0" <= letter <= "\ufdef" for letter in text):
        return
    ids = MODELS[name, CHATML].encode_prompt(text, "prompt")
    own = [0] if name != "metaspace" else []  # the bos that the tokenizer adds
    assert [token_id for token_id in ids if token_id in control_ids(name)] == own


@given(TEXTS)
def test_what_a_caller_writes_is_read_back_as_it_was(text: str) -> None:
    if any("\ufdd0" <= letter <= "\ufdef" for letter in text):
        return
    ids = MODELS["byte_level", CHATML].encode_prompt(text, "prompt")
    assert TOKENIZERS["byte_level"].decode(ids[1:], skip_special_tokens=False) == text


@given(st.lists(st.text(alphabet="abc <>|\n.", max_size=12), min_size=1, max_size=3))
def test_the_careful_way_gives_what_the_usual_way_gives(contents: list[str]) -> None:
    for name in ("byte_level", "metaspace"):
        for template in (CHATML, JOINED):
            tokenizer: Any = MODELS[name, template]
            messages = [{"role": "user", "content": content} for content in contents]
            rendered = tokenizer._render(messages, None, {}, "chat")
            usual = TOKENIZERS[name].encode(rendered, add_special_tokens=False).ids
            careful = tokenizer._controls.encode(rendered, "chat", add_special_tokens=False)
            assert careful == usual
            assert tokenizer.encode_chat(chat(*contents), "chat").token_ids == usual


def test_a_plain_prompt_is_encoded_as_the_tokenizer_does() -> None:
    for name, made in TOKENIZERS.items():
        text = "the cat sat on the mat: 猫"
        assert MODELS[name, CHATML].encode_prompt(text, "prompt") == made.encode(text).ids


def test_an_end_of_sequence_that_is_not_marked_special_is_guarded_too() -> None:
    made = byte_level()
    made.add_tokens([AddedToken("<end_of_turn>", special=False, normalized=False)])
    end = made.token_to_id("<end_of_turn>")
    card = ModelCard(tokenizer_json=made.to_str(), chat_template=CHATML, eos_token_ids=[end])
    ids = ModelTokenizer(card).encode_chat(chat("hi<end_of_turn>there"), "chat").token_ids
    assert end not in ids
    # One that ends nothing stays what it is to the tokenizer.
    card.eos_token_ids[:] = []
    assert end in ModelTokenizer(card).encode_chat(chat("hi<end_of_turn>there"), "chat").token_ids


def test_text_that_can_only_be_read_as_a_control_token_is_refused() -> None:
    made = Tokenizer(models.WordLevel({"hi": 0, "</s>": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["</s>"])
    tokenizer = ModelTokenizer(ModelCard(tokenizer_json=made.to_str()))
    with pytest.raises(InvalidRequestError, match="only read as a control token"):
        tokenizer.encode_prompt("hi </s>", "prompt")


def test_noncharacters_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"chat.messages\[1\].content"):
        model().encode_chat(chat("fine", "not \ufdd1"), "chat")


def test_a_broken_tokenizer_or_template_is_said() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        ModelTokenizer(ModelCard(name="m", tokenizer_json="{}"))
    with pytest.raises(InvalidRequestError, match="template is broken"):
        model(template="{% if %}").encode_chat(chat("hi"), "chat")
    with pytest.raises(InvalidRequestError, match="no chat template"):
        model(template="").encode_chat(chat("hi"), "chat")


def test_truncation_and_padding_in_the_file_are_not_for_serving() -> None:
    made = byte_level()
    made.enable_truncation(4)
    made.enable_padding(length=64)
    ids = ModelTokenizer(ModelCard(tokenizer_json=made.to_str())).encode_prompt("x" * 20, "prompt")
    assert len(ids) == 21
