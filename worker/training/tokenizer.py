"""Trains the tokenizer: byte-level BPE that keeps what has to be copied in equal pieces.

Every digit and every Chinese character is a token of its own, and a space is never part
of a digit's token: "7" looks the same wherever it stands, so an answer can repeat it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from training.conversation import END, START, TEXT_END

PATTERN = (
    r"\p{N}|\p{Han}|'(?:[sdmt]|ll|ve|re)\b"
    r"| ?(?:(?!\p{Han})[\p{L}\p{M}])+| ?[^\s\p{L}\p{M}\p{N}]|\s*[\r\n]|\s+(?!\S)|\s"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(
    texts: Iterable[str], vocabulary: int, max_length: int
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[TEXT_END, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=TEXT_END,
        additional_special_tokens=[START],
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer, with a configuration that every version of transformers reads."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": CHAT_TEMPLATE,
        "eos_token": END,
        "pad_token": TEXT_END,
        "additional_special_tokens": [START],
        "clean_up_tokenization_spaces": False,
        "model_max_length": tokenizer.model_max_length,
    }
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
