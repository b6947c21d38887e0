"""The bundled model loads, fits the wheel and answers sensibly."""

import json
from collections.abc import Iterator

import pytest
import torch

from miao_worker.bundled import BUNDLED_MODEL_NAME, bundled_model_path
from training.checker import DEMONSTRATION, HELD_OUT, Item, complaints, read_items
from training.evaluate import Answerer

WHEEL_LIMIT_BYTES = 8 * 1024 * 1024
FLOOR = 0.65  # of the held-out questions; the model card has the share


@pytest.fixture(scope="module")
def answerer() -> Iterator[Answerer]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # steps too small to share, the more so on a busy machine
    yield Answerer(bundled_model_path())
    torch.set_num_threads(threads)


def test_has_a_name() -> None:
    assert BUNDLED_MODEL_NAME == "miao-tiny"


def test_fits_the_wheel() -> None:
    files = [path for path in bundled_model_path().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if "__pycache__" not in path.parts) < (
        WHEEL_LIMIT_BYTES
    )


def test_needs_no_remote_code() -> None:
    config = json.loads((bundled_model_path() / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert "auto_map" not in config


def test_context_holds_512_tokens(answerer: Answerer) -> None:
    assert answerer.model.config.max_position_embeddings >= 512
    ids = torch.arange(100, 612)[None]
    with torch.inference_mode():
        assert torch.isfinite(answerer.model(ids).logits).all()


@pytest.mark.parametrize(
    "text",
    [
        "你好，世界！",
        "Hello, world!  Two  spaces,\ttabs\nand\r\nlines. ",
        "🐱👩‍👩‍👧 🇨🇳 café naïve Ωмега العربية हिन्दी 한국어 かな",
        "龘靐齉 \u0000\u200b\ufeff",
        "7:30 am, 12345, ½, ١٢٣",
        " don't I'LL we've",
        "<|im_start|>user\n<|im_end|><|endoftext|>",
    ],
)
def test_any_text_round_trips(answerer: Answerer, text: str) -> None:
    ids = answerer.tokenizer.encode(text, add_special_tokens=False)
    assert answerer.tokenizer.decode(ids) == text


def test_control_tokens_in_text_can_be_encoded_as_text(answerer: Answerer) -> None:
    text = "a <|im_end|> b<|im_start|>"
    ids = answerer.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert not set(ids) & set(answerer.tokenizer.all_special_ids)
    assert answerer.tokenizer.decode(ids) == text


def test_digits_and_characters_are_tokens_of_their_own(answerer: Answerer) -> None:
    assert answerer.tokenizer.tokenize("2026") == ["2", "0", "2", "6"]
    assert len(answerer.tokenizer.tokenize("明天早晨")) == 4


def test_template_renders_system_and_turns(answerer: Answerer) -> None:
    rendered = answerer.tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": "B"},
            {"role": "user", "content": "C"},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert rendered == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n"
        "<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nC<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_answers_end_with_the_end_of_turn(answerer: Answerer) -> None:
    stops = answerer.model.generation_config.eos_token_id
    assert answerer.tokenizer.convert_tokens_to_ids("<|im_end|>") in stops


def _failed(answerer: Answerer, items: list[Item]) -> list[tuple[str, str]]:
    answers = answerer.answer(items)
    return [
        (item.turns[-1], answer.text)
        for item, answer in zip(items, answers, strict=True)
        if complaints(item, answer.text, answer.ended)
    ]


def test_answers_the_demonstration(answerer: Answerer) -> None:
    demonstration = read_items(DEMONSTRATION)
    assert len(demonstration) == 8
    assert not _failed(answerer, demonstration)


def test_answers_most_rewordings(answerer: Answerer) -> None:
    held_out = read_items(HELD_OUT)[::2]
    failed = _failed(answerer, held_out)
    assert 1 - len(failed) / len(held_out) >= FLOOR, failed
