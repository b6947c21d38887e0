"""Sets a model's smallest weights to zero when it is loaded.

Magnitude pruning (Han et al., "Learning both Weights and Connections for Efficient
Neural Networks", 2015) layer by layer, without training afterwards: a share of each
layer's weights, or two of every four inputs of an output ("2:4"), the pattern
that GPUs skip (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
Embeddings and the head stay whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from miao_worker.engine.errors import ModelLoadError

_log = logging.getLogger(__name__)


def check_prune(prune: str | None) -> None:
    """Raises ModelLoadError for what is neither "2:4" nor a share between 0 and 1."""
    if prune in (None, "2:4"):
        return
    try:
        is_share = 0 < float(prune) < 1
    except ValueError:
        is_share = False
    if not is_share:
        raise ModelLoadError(f"prune is {prune}; it must be a share between 0 and 1, or 2:4.")


@torch.no_grad()
def prune_model(model: PreTrainedModel, prune: str) -> float:
    """Zero the weights in place; returns the share of zeros in the layers' weights."""
    num_zeros = num_weights = 0
    for weight in _weights(model):
        zeros = _pattern(weight) if prune == "2:4" else _smallest(weight, float(prune))
        weight.masked_fill_(zeros, 0)
        num_zeros += int((weight == 0).sum())
        num_weights += weight.numel()
    if not num_weights:
        raise ModelLoadError("prune is set, but the model has no linear layers to prune.")
    return num_zeros / num_weights


def say_effect(prune: str, share: float, *, are_skipped: bool) -> None:
    """Tell the operator what the pruning of a loaded model brings."""
    effect = "the GPU's products skip them" if are_skipped else "which saves no time and no memory"
    _log.warning(
        "pruned %s: %.1f%% of the layers' weights are zero; %s", prune, share * 100, effect
    )


def _weights(model: PreTrainedModel) -> Iterator[Tensor]:
    """The weights of linear layers but the head: (out, in)."""
    head = model.get_output_embeddings()
    for layer in model.modules():
        if type(layer) is nn.Linear and layer is not head:
            yield layer.weight.detach()
        elif type(layer) is Conv1D:
            yield layer.weight.detach().t()


def _smallest(weight: Tensor, share: float) -> Tensor:
    """Where the smallest weights are, exactly that share of them."""
    magnitudes = weight.abs().float()
    wanted = int(share * weight.numel())
    if not wanted:
        return torch.zeros_like(weight, dtype=torch.bool)
    limit = magnitudes.flatten().kthvalue(wanted).values
    zeros = magnitudes < limit
    ties = (magnitudes == limit).flatten().nonzero()[: wanted - int(zeros.sum()), 0]
    rows, columns = ties // weight.shape[1], ties % weight.shape[1]
    zeros[rows, columns] = True
    return zeros


def _pattern(weight: Tensor) -> Tensor:
    """Where the two smallest of every four inputs are; nowhere, if four do not divide them."""
    zeros = torch.zeros_like(weight, dtype=torch.bool, memory_format=torch.contiguous_format)
    if weight.shape[1] % 4:
        return zeros
    fours = weight.abs().float().reshape(len(weight), -1, 4)
    return (
        zeros.view(fours.shape)
        .scatter_(-1, fours.topk(2, dim=-1, largest=False).indices, True)
        .view(weight.shape)
    )
