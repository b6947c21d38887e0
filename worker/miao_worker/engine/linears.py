"""Replaces a model's linear layers on the CPU by oneDNN's, packed once at load.

`nn.Linear` hands its weight to the matrix product as it lies in memory; oneDNN
first brings it into the order its kernel reads, and at few rows that, or doing
without it, decides the time. Where the CPU multiplies bfloat16 itself the
weights stay in it; elsewhere they are widened to float32 once, because the
bfloat16 product is there several times slower than the float32 one.
A float32 model is left as it is, so its output stays the reference's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

_ROWS_HINT = 32  # the batch that the packed order is chosen for


class PackedLinear(nn.Module):
    """y = x W^T + b with a packed weight; takes and returns the model's dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None, compute_dtype: torch.dtype) -> None:
        """Shapes: weight (out, in), bias (out,)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._compute_dtype = compute_dtype
        self._weight = _pack(weight.detach().to(compute_dtype).contiguous())
        self._bias = None if bias is None else bias.detach().to(compute_dtype)

    def forward(self, x: Tensor) -> Tensor:
        packed_input = x.to(self._compute_dtype)
        return _multiply(packed_input, self._weight, self._bias).to(x.dtype)


def pack_linears(model: nn.Module, dtype: torch.dtype, device: torch.device) -> int:
    """Pack the model's linear layers in place; returns how many.

    None where the device, the dtype or the machine leaves nothing to gain.
    """
    if device.type != "cpu" or dtype == torch.float32 or not _is_available():
        return 0
    compute_dtype = _compute_dtype(dtype)
    if not _is_right(compute_dtype):
        return 0
    layers = [(module, name, child) for module in model.modules()
              for name, child in module.named_children()
              if type(child) in (nn.Linear, Conv1D)]  # fmt: skip
    for parent, name, layer in layers:
        setattr(parent, name, _packed(layer, compute_dtype))
    return len(layers)


def _packed(layer: nn.Module, compute_dtype: torch.dtype) -> PackedLinear:
    weight: Any = layer.weight
    bias: Any = layer.bias
    matrix = weight.t() if isinstance(layer, Conv1D) else weight
    return PackedLinear(matrix, bias, compute_dtype)


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def _is_available() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_reorder_linear_weight"
    )


def _is_right(compute_dtype: torch.dtype) -> bool:
    """Whether this build's packed product agrees with the plain one on a small case."""
    x, weight = torch.randn(3, 64), torch.randn(32, 64)
    try:
        with torch.inference_mode():
            packed = _pack(weight.to(compute_dtype))
            result = _multiply(x.to(compute_dtype), packed, None).float()
    except RuntimeError:
        return False
    return torch.allclose(result, x @ weight.t(), rtol=0.05, atol=0.5)


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)
    return packed


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result
