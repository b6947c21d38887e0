"""From a classifier's logits to its scores, as transformers and sentence-transformers do."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig

from miao_worker.engine.errors import ModelLoadError


class Activation(StrEnum):
    """What is made of logits, by the name of the class in torch."""

    SOFTMAX = "Softmax"
    SIGMOID = "Sigmoid"
    IDENTITY = "Identity"


def activation_of(config: PretrainedConfig) -> Activation:
    """What the model's configuration asks for: its cross-encoder's function, else by its problem.

    Raises ModelLoadError for a function that is not supported.
    """
    cross_encoder: Any = getattr(config, "sentence_transformers", None) or {}
    named = cross_encoder.get("activation_fn") or getattr(
        config, "sbert_ce_default_activation_function", None
    )
    if named:
        name = str(named).rpartition(".")[2]
        if name not in list(Activation):
            raise ModelLoadError(f"The model scores by {name}, which is not supported.")
        return Activation(name)
    if config.problem_type == "regression":
        return Activation.IDENTITY
    is_multiple = config.problem_type == "multi_label_classification"
    return Activation.SIGMOID if is_multiple or config.num_labels == 1 else Activation.SOFTMAX


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Scores of logits, (..., labels)."""
    match activation:
        case Activation.SOFTMAX:
            return logits.softmax(-1)
        case Activation.SIGMOID:
            return logits.sigmoid()
    return logits
