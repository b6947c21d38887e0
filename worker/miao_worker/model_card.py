"""A model's card: all that a front needs, read from the model's own files."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_pb2 as understanding
from miao_worker.engine.errors import ModelLoadError
from miao_worker.model_identity import vocabulary_digest, weights_digest
from miao_worker.tool_formats import detect_reasoning_format, detect_tool_format

_LEAST_SHARE = 0.9  # of the vocabulary, that a draft model has to know


class EngineFacts(Protocol):
    """What an engine says of the model that it has loaded."""

    @property
    def dtype(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_model_length(self) -> int: ...

    @property
    def token_capacity(self) -> int:
        """Tokens that its cache holds."""
        ...


def build_model_card(name: str, model: str, engine: EngineFacts) -> ModelCard:
    """Describe a loaded model. Raises ModelLoadError if its tokenizer cannot be used."""
    config = AutoConfig.from_pretrained(model)
    tokenizer = load_tokenizer(model)
    generation = _generation_config(model, config)
    tokenizer_json = tokenizer.backend_tokenizer.to_str()
    template, tool_template = _chat_templates(tokenizer)
    return ModelCard(
        name=name,
        architecture=(config.architectures or [type(config).__name__])[0],
        num_parameters=_count_parameters(config),
        dtype=engine.dtype,
        max_model_length=min(engine.max_model_length, engine.token_capacity),
        vocab_size=engine.vocab_size,
        tokenizer_json=tokenizer_json,
        chat_template=template,
        tool_chat_template=tool_template,
        tool_format=detect_tool_format(tool_template or template),
        reasoning_format=detect_reasoning_format(template, tokenizer.get_added_vocab()),
        special_tokens=special_tokens(tokenizer),
        eos_token_ids=_eos_token_ids(generation, tokenizer),
        default_sampling=_default_sampling(generation),
        vocabulary_digest=vocabulary_digest(tokenizer_json, engine.vocab_size),
        weights_digest=weights_digest(model),
        tasks=[understanding.TASK_GENERATE],
    )


def check_draft_vocabulary(model: str, draft_model: str) -> None:
    """Raises ModelLoadError where the two models mean different tokens by an id.

    Ids that one of them lacks do no harm: families pad and extend their vocabularies.
    """
    ids = load_tokenizer(model).get_vocab()
    draft_ids = load_tokenizer(draft_model).get_vocab()
    tokens = {token_id: token for token, token_id in ids.items()}
    num_other = sum(tokens.get(i, token) != token for token, i in draft_ids.items())
    if num_other or len(draft_ids) < _LEAST_SHARE * len(ids):
        raise ModelLoadError(
            f"the draft model {draft_model} has another vocabulary than {model} "
            f"({len(draft_ids)} and {len(ids)} tokens, {num_other} ids that differ); "
            "choose a draft model of the same family"
        )


def _count_parameters(config: Any) -> int:
    """Parameters of the architecture; those that are shared count once."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer in its fast form. Raises ModelLoadError if it has none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:
        raise ModelLoadError(
            f"the tokenizer of {model} cannot be loaded ({type(error).__name__}); "
            "the folder needs a tokenizer.json"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelLoadError(
            f"the tokenizer of {model} has no fast form; save it as a tokenizer.json first"
        )
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def _generation_config(model: str, config: Any) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(model)
    except OSError:  # most bare checkpoints have none
        return GenerationConfig.from_model_config(config)


def _chat_templates(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The template, and the one with tools where that is another."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        return template.get("default") or "", template.get("tool_use") or ""
    return template or "", ""


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The texts of the tokens that have a part to play, by the name of their part."""
    return {
        name: str(value)
        for name, value in tokenizer.special_tokens_map.items()
        if isinstance(value, str)
    }


def _eos_token_ids(generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: Any = generation.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return []
    return sorted(set(ids)) if isinstance(ids, list) else [ids]


def _default_sampling(generation: GenerationConfig) -> pb.Sampling:
    """What `generate` would use: greedy unless the model asks for sampling."""

    def value(name: str, default: float) -> float:
        found = getattr(generation, name, None)
        return default if found is None else found

    repetition_penalty = value("repetition_penalty", 1.0)
    if not generation.do_sample:
        return pb.Sampling(
            temperature=0, top_p=1, top_k=0, min_p=0, repetition_penalty=repetition_penalty
        )
    return pb.Sampling(
        repetition_penalty=repetition_penalty,
        temperature=value("temperature", 1.0),
        top_p=value("top_p", 1.0),
        top_k=int(value("top_k", 0)),
        min_p=value("min_p", 0.0),
    )
