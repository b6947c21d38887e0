"""What a model is for, from its files."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.model_files import ModelFiles
from miao_worker.engine.encoder.sentence_files import transformer_folder
from miao_worker.engine.encoder.types import EncoderTask
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.loader import load_config


def encoder_task(config: EngineConfig) -> EncoderTask | None:
    """What the encoder is for; None for a model that generates. Raises ModelLoadError.

    The files of sentence-transformers come first, then the architecture that the
    checkpoint names; a bare encoder embeds. `config.task` overrides it.
    """
    if config.task == "generate":
        return None
    is_sentence_model = ModelFiles(config.model).json("modules.json") is not None
    if config.task == "auto" and is_sentence_model:
        return EncoderTask.EMBED
    model_config = load_config(transformer_folder(config.model))
    found = _of_architecture(model_config)
    if config.task == "auto":
        return found
    if config.task == "embed":
        return EncoderTask.EMBED
    _check_asked(config, model_config, found)
    return found


def _of_architecture(config: PretrainedConfig) -> EncoderTask | None:
    architecture = _architecture(config)
    if architecture.endswith("ForSequenceClassification"):
        return EncoderTask.CLASSIFY
    if architecture.endswith("ForTokenClassification"):
        return EncoderTask.CLASSIFY_TOKENS
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return None
    is_encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return EncoderTask.EMBED if is_encoder else None


def _check_asked(config: EngineConfig, model: PretrainedConfig, found: EncoderTask | None) -> None:
    """Whether a model that is to classify or to rerank can."""
    architecture = _architecture(model) or model.model_type
    can = found in (EncoderTask.CLASSIFY, EncoderTask.CLASSIFY_TOKENS)
    if config.task == "rerank":
        can = found is EncoderTask.CLASSIFY and model.num_labels == 1
    if not can:
        raise ModelLoadError(
            f"{config.model} cannot {config.task}: it is {architecture} with "
            f"{model.num_labels} labels; choose a model that was trained for it."
        )


def _architecture(config: PretrainedConfig) -> str:
    named: Any = config.architectures
    return str(named[0]) if named else ""
