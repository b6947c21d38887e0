"""A small random model with a real tokenizer, for tests that need a whole worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

torch.set_num_threads(1)  # the models are too small for more, and workers need the processors

_TEXT = ["the quick brown fox jumps over the lazy dog", "这是一个美好的春天。", "0123456789 .,!?"]
_TEMPLATE = (
    "{% if tools %}<tool_call> {{ tools[0].function.name }}\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT * 10, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=_TEMPLATE
    )


def save_llama(folder: Path, seed: int, **shape: Any) -> Path:
    """Write a random Llama of two layers, context 512, with the tiny tokenizer; its folder."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    usual = {
        "vocab_size": len(tokenizer),
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.4,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": 0,
    }
    LlamaForCausalLM(LlamaConfig(**(usual | shape))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Llama of two layers, float32, context 512.

    Its head size of 12 keeps it off the compiled kernels, which would be at its end
    before a test can kill anything.
    """
    return save_llama(tmp_path_factory.mktemp("models") / "tiny-llama", 7, hidden_size=48)


@pytest.fixture(scope="session")
def expected(tiny_model: Path) -> Callable[[list[int], int], list[int]]:
    """What transformers says greedily to a prompt, in so many tokens."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    said: dict[tuple[int, ...], list[int]] = {}

    def generate(prompt: list[int], max_tokens: int) -> list[int]:
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return output[0, len(prompt) :].tolist()  # type: ignore[no-any-return]

    def remember(prompt: list[int], max_tokens: int) -> list[int]:
        known = said.setdefault(tuple(prompt), [])
        if len(known) < max_tokens:
            known += generate(prompt + known, max_tokens - len(known))
        return known[:max_tokens]

    return remember
