"""Linear layers on rounded weights for GPUs, by torch's own kernels.

int8         `_int_mm`: exact sums of 8-bit products, from compute capability 8.0
int8-weight  `_weight_int8pack_mm`, in builds of torch that have it for CUDA
int4-weight  `_weight_int4pack_mm` (tinygemm): reads a quarter of the bytes, from 8.0
fp8          `_scaled_mm` with a scale for each row, from 9.0

A model that was pruned 2:4 gets semi-structured sparse products, from 8.0.

Activations are bfloat16. The rounding of a row knows nothing of the other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from miao_worker.engine.config import Quantization
from miao_worker.engine.cpu.linears import LinearFactory, LinearScheme
from miao_worker.engine.cpu.products import quantize
from miao_worker.engine.cpu.weights import Grouped, group_size, quantize_groups
from miao_worker.engine.errors import ModelLoadError

_INT_MM_ROWS = 32  # `_int_mm` takes more than 16
_FP8_MAX = 448.0  # of float8_e4m3fn
_CAPABILITY: dict[Quantization, tuple[int, int]] = {
    "int8": (8, 0),
    "int8-weight": (8, 0),
    "int4-weight": (8, 0),
    "fp8": (9, 0),
}


class PlainLinear(nn.Module):
    """y = x W^T + b for a weight that the rounded product does not take."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._weight, self._bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class RoundedLinear(nn.Module):
    """y = x W^T + b by a product of rows (rows, in) to (rows, out)."""

    def __init__(
        self, product: Callable[[Tensor], Tensor], out_features: int, bias: Tensor | None
    ) -> None:
        super().__init__()
        self._product, self._out_features, self._bias = product, out_features, bias

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = self._product(rows) if len(rows) else x.new_empty(0, self._out_features)
        if self._bias is not None:
            y = y + self._bias
        return y.view(*x.shape[:-1], self._out_features)


def scheme(device: torch.device, quantize: Quantization) -> LinearScheme:
    """Raises ModelLoadError where this GPU or this build of torch does not have it."""
    _check(torch.cuda.get_device_capability(device), quantize)
    head = None
    if quantize == "int4-weight":
        head = _FACTORIES["int8-weight"] if _has_int8_weight_product() else PlainLinear
    return LinearScheme(torch.bfloat16, _FACTORIES[quantize], is_rounded=True, head=head)


def _check(capability: tuple[int, int], quantize: Quantization) -> None:
    needed = _CAPABILITY[quantize]
    if capability < needed:
        raise ModelLoadError(
            f"quantize is {quantize}, which needs a GPU of compute capability "
            f"{needed[0]}.{needed[1]}; this one has {capability[0]}.{capability[1]}."
        )
    if quantize == "int8-weight" and not _has_int8_weight_product():
        raise ModelLoadError(
            "quantize is int8-weight, which this build of torch has no CUDA product for; "
            "use int8 or int4-weight."
        )


def _has_int8_weight_product() -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key("aten::_weight_int8pack_mm", "CUDA")


def skips_zeros(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this GPU's products gain by weights of which two of every four are zero."""
    capability = torch.cuda.get_device_capability(device)
    return capability >= (8, 0) and dtype in (torch.bfloat16, torch.float16)


def sparse_scheme(dtype: torch.dtype) -> LinearScheme:
    """For a model that was pruned 2:4; its head was not."""
    return LinearScheme(dtype, sparse_linear, head=PlainLinear, skips_zeros=True)


def sparse_linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Two of every four inputs are zero and left out. Shapes: weight (out, in), bias (out,)."""
    if weight.shape[0] % 32 or weight.shape[1] % 64:
        return PlainLinear(weight, bias)
    sparse = torch.sparse.to_sparse_semi_structured(weight.contiguous())
    return PlainLinear(sparse, bias)


def int8_linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Weights and activations of 8 bits. Shapes: weight (out, in), bias (out,)."""
    if weight.shape[0] % 8 or weight.shape[1] % 8:
        return PlainLinear(weight, bias)
    values, scale = quantize(weight)
    return RoundedLinear(partial(_int8_product, values.t(), scale), len(weight), bias)


def _int8_product(values: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """Shapes: values (in, out) int8, scale (out,), x (rows, in); returns (rows, out)."""
    wide = x.float()
    row_scale = wide.abs().amax(dim=1, keepdim=True) / 127
    rounded = (wide / row_scale.clamp_min(1e-30)).round().to(torch.int8)
    missing = max(0, _INT_MM_ROWS - len(x))
    sums = torch._int_mm(F.pad(rounded, (0, 0, 0, missing)), values)[: len(x)]
    return (sums.float() * (row_scale * scale)).to(x.dtype)


def int8_weight_linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Weights of 8 bits. Shapes: weight (out, in), bias (out,)."""
    if weight.shape[0] % 32 or weight.shape[1] % 32:
        return PlainLinear(weight, bias)
    values, scale = quantize(weight)
    product = partial(_int8_weight_product, values, scale.to(weight.dtype))
    return RoundedLinear(product, len(weight), bias)


def _int8_weight_product(values: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    y: Tensor = torch.ops.aten._weight_int8pack_mm(x.contiguous(), values, scale)
    return y


def int4_weight_linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Weights of 4 bits by groups. Shapes: weight (out, in), bias (out,)."""
    out, in_ = weight.shape
    tiles = next((tiles for tiles in (8, 4, 2) if in_ % (tiles * 16) == 0), None)
    if out % 8 or tiles is None or group_size(in_) is None:
        return PlainLinear(weight, bias)
    grouped = quantize_groups(weight)
    product = partial(_int4_product, _pack_int4(grouped, tiles), _scales_and_middles(grouped))
    return RoundedLinear(partial(product, grouped.group), out, bias)


def _pack_int4(grouped: Grouped, tiles: int) -> Tensor:
    """In the order of tinygemm; two inputs to a byte, the first in the high half."""
    codes = grouped.codes
    packed: Tensor
    if codes.device.type == "cpu":
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), tiles)
    else:
        bytes_ = codes[:, ::2] << 4 | codes[:, 1::2]
        packed = torch.ops.aten._convert_weight_to_int4pack(bytes_, tiles)
    return packed


def _scales_and_middles(grouped: Grouped) -> Tensor:
    """(groups, out, 2): w = (code - 8) * scale + middle, as here, so there."""
    return torch.stack([grouped.scales.t(), grouped.middles.t()], dim=2).contiguous()


def _int4_product(packed: Tensor, scales: Tensor, group: int, x: Tensor) -> Tensor:
    product = torch.ops.aten._weight_int4pack_mm
    if x.device.type == "cpu":
        product = torch.ops.aten._weight_int4pack_mm_for_cpu
    y: Tensor = product(x.contiguous(), packed, group, scales)
    return y


def fp8_linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Weights and activations as 8-bit floats. Shapes: weight (out, in), bias (out,)."""
    if weight.shape[0] % 16 or weight.shape[1] % 16:
        return PlainLinear(weight, bias)
    values, scale = _to_fp8(weight)
    return RoundedLinear(partial(_fp8_product, values.t(), scale.t()), len(weight), bias)


def _to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row with a scale of its own: (rows, n) float8, (rows, 1) float32."""
    wide = x.float()
    scale = (wide.abs().amax(dim=1, keepdim=True) / _FP8_MAX).clamp_min(1e-30)
    return (wide / scale).to(torch.float8_e4m3fn), scale


def _fp8_product(values: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """Shapes: values (in, out) float8, its columns contiguous, scale (1, out)."""
    rounded, row_scale = _to_fp8(x)
    return torch._scaled_mm(rounded, values, row_scale, scale, out_dtype=x.dtype)


_FACTORIES: dict[Quantization, LinearFactory] = {
    "int8": int8_linear,
    "int8-weight": int8_weight_linear,
    "int4-weight": int4_weight_linear,
    "fp8": fp8_linear,
}
