"""Loads an encoder with what comes on top of it, or says in one sentence why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.activation import Activation, activation_of
from miao_worker.engine.encoder.sentence_files import (
    DenseFiles,
    SentenceRecipe,
    read_recipe,
    transformer_folder,
)
from miao_worker.engine.encoder.types import EncoderTask
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.loader import dtype_of, load_config, plain_sentences, quiet, resolve_device

_CLASSES: dict[EncoderTask, Any] = {
    EncoderTask.EMBED: AutoModel,
    EncoderTask.CLASSIFY: AutoModelForSequenceClassification,
    EncoderTask.CLASSIFY_TOKENS: AutoModelForTokenClassification,
}


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """A model on its device, with what is made of its numbers.

    layers: on the pooled vector; its dimensions are what comes out of them.
    """

    task: EncoderTask
    model: PreTrainedModel
    recipe: SentenceRecipe
    layers: nn.Sequential
    dimensions: int
    activation: Activation
    labels: tuple[str, ...]
    max_length: int
    pad_token_id: int


def load_encoder(config: EngineConfig, task: EncoderTask) -> LoadedEncoder:
    """Raises ModelLoadError where the model or its settings cannot be served."""
    _refuse_what_is_for_decoders(config)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = resolve_device(config.device)
    folder = transformer_folder(config.model)
    model: Any = _load_model(config, task, folder)
    model = model.to(device).eval()
    model_config: Any = model.config.get_text_config()
    recipe = read_recipe(config.model) if task is EncoderTask.EMBED else SentenceRecipe()
    size = int(model_config.hidden_size) * len(recipe.poolings)
    layers, size = _load_layers(recipe.dense, size)
    embeds = task is EncoderTask.EMBED
    return LoadedEncoder(
        task=task,
        model=model,
        recipe=recipe,
        layers=layers.to(device),
        dimensions=size if embeds else 0,
        activation=Activation.IDENTITY if embeds else activation_of(model.config),
        labels=() if embeds else _labels(model.config),
        max_length=_max_length(config, recipe, model),
        pad_token_id=_padding_index(model) or getattr(model_config, "pad_token_id", None) or 0,
    )


def _refuse_what_is_for_decoders(config: EngineConfig) -> None:
    if config.quantize is not None:
        raise ModelLoadError(f"--quantize is for models that generate; {config.model} is none.")
    if config.kv_cache_dtype != "auto":
        raise ModelLoadError(f"{config.model} does not generate and has no KV pool to round.")
    if config.speculation != "off":
        raise ModelLoadError(f"Speculation is for models that generate; {config.model} is none.")


def _load_model(config: EngineConfig, task: EncoderTask, folder: str) -> PreTrainedModel:
    model_config = load_config(folder)
    with plain_sentences(config.model), quiet():
        model, report = _CLASSES[task].from_pretrained(
            folder,
            config=model_config,
            dtype=dtype_of(config),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=Path(folder).is_dir(),
            output_loading_info=True,
        )
    embeds = task is EncoderTask.EMBED
    missing = [key for key in sorted(report["missing_keys"]) if not (embeds and "pooler." in key)]
    if missing:
        raise ModelLoadError(
            f"The weights of {config.model} lack {len(missing)} tensors of the model, "
            f"{missing[0]} among them; download or export it again."
        )
    if embeds and isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None  # what it makes is not looked at
    loaded: PreTrainedModel = model
    return loaded


def _load_layers(files: tuple[DenseFiles, ...], size: int) -> tuple[nn.Sequential, int]:
    """The layers of a vector of this size, in float32, and the size that they make of it."""
    layers = nn.Sequential()
    for each in files:
        weights = load_file(each.weights)
        out, into = weights["linear.weight"].shape
        if into != size:
            raise ModelLoadError(
                f"{each.weights} takes {into} numbers where there are {size}; download it again."
            )
        linear = nn.Linear(into, out, bias="linear.bias" in weights)
        linear.load_state_dict({key.removeprefix("linear."): w for key, w in weights.items()})
        layers.append(linear.float())
        layers.append(getattr(nn, each.activation)())  # one of sentence_files.ACTIVATIONS
        size = out
    return layers.eval().requires_grad_(False), size


def _labels(config: Any) -> tuple[str, ...]:
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))


def _max_length(config: EngineConfig, recipe: SentenceRecipe, model: PreTrainedModel) -> int:
    """Tokens of one input: what the model knows, cut by its files and by the option."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and positions > 0:
        # The RoBERTa family counts positions from behind that of padding.
        padding = _padding_index(model)
        positions -= 0 if padding is None else padding + 1
    wanted = config.max_model_length
    known = [n for n in (positions, recipe.max_length) if n]
    if wanted is not None and positions and wanted > positions:
        raise ModelLoadError(
            f"{config.model} knows {positions} positions; set max_model_length to at most that."
        )
    if not known and wanted is None:
        raise ModelLoadError(f"{config.model} names no context length; set max_model_length.")
    return min(known) if wanted is None else wanted


def _padding_index(model: PreTrainedModel) -> int | None:
    embeddings: Any = getattr(model.base_model, "embeddings", None)
    index = getattr(embeddings, "padding_idx", None)
    return index if isinstance(index, int) else None
