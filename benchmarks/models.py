"""Models of known shapes with random weights: speed does not depend on what they say.

qwen2-0.5b   the shape of Qwen2.5-0.5B, bfloat16
qwen2-draft  the first two layers of qwen2-0.5b, as a draft model for it
llama-tiny   a Llama of 4 layers of 256, where everything but arithmetic shows
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CACHE = Path.home() / ".cache" / "miao" / "benchmarks"


def ensure_model(name: str) -> Path:
    """The folder of a model, made on first use."""
    folder = CACHE / name
    if not (folder / "tokenizer.json").exists():
        torch.manual_seed(0)
        model = _MAKERS[name]().to(torch.bfloat16)
        model.save_pretrained(folder)
        _tokenizer(model.config.vocab_size).save_pretrained(folder)
    return folder


def _qwen2() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=151936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _qwen2_draft() -> Qwen2ForCausalLM:
    model = Qwen2ForCausalLM.from_pretrained(ensure_model("qwen2-0.5b"))
    del model.model.layers[2:]
    model.config.num_hidden_layers = 2
    model.config.layer_types = model.config.layer_types[:2]
    return model


def _llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of this very file, filled up to the model's vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([Path(__file__).read_text("utf-8")], trainer)
    missing = vocab_size - tokenizer.get_vocab_size()
    tokenizer.add_tokens([f" word{i}" for i in range(missing)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


_MAKERS = {"qwen2-0.5b": _qwen2, "qwen2-draft": _qwen2_draft, "llama-tiny": _llama}
