"""Linear layers on weights of 8 or 4 bits with activations as they are (see weights.c)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from miao_worker.engine.cpu.kernels import (
    GATES,
    Kernels,
    ProductStruct,
    WeightProductStruct,
    dtype_code,
    num_panels,
)
from miao_worker.engine.cpu.products import halves_of, panel_order, panels_memory, quantize

_PANEL = 32
_HEADER_BYTES = 2 * _PANEL * 2  # a group's scales and middles
_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8)  # ranges that are tried for each group


@dataclass(frozen=True, slots=True)
class Grouped:
    """A weight of 4 bits: w = (code - 8) * scale + middle, by groups of inputs."""

    codes: Tensor  # (out, in) uint8 in 0..15
    scales: Tensor  # (out, in / group) bfloat16
    middles: Tensor

    @property
    def group(self) -> int:
        return self.codes.shape[1] // self.scales.shape[1]

    def dequantize(self) -> Tensor:
        """What the codes stand for: (out, in) float32."""
        out, in_ = self.codes.shape
        codes = self.codes.view(out, -1, self.group).float() - 8
        return (codes * self.scales.float()[..., None] + self.middles.float()[..., None]).view(
            out, in_
        )


class WeightLinear(nn.Module):
    """y = x W^T + b, or activation(gate) * up of it, W in 8 or 4 bits on packed panels.

    x is (..., in) in `activations`, bfloat16 or float32; y is `out_dtype`, (..., out),
    half as wide with a gate.
    """

    def __init__(
        self,
        functions: Kernels,
        weight: Tensor,
        bias: Tensor | None,
        *,
        bits: int,
        gate: str | None = None,
        activations: torch.dtype = torch.bfloat16,
        out_dtype: torch.dtype | None = None,
    ) -> None:
        """Shapes: weight (out, in), bias (out,); with a gate its rows come first, up's follow.

        Where no group of 4 bits divides the inputs, W has 8.
        """
        super().__init__()
        rows, self.in_features = weight.shape
        self.out_features = rows // 2 if gate else rows
        self._functions = functions
        self._out_dtype = out_dtype or activations
        self.bits = bits if group_size(self.in_features) is not None else 8
        panels = num_panels(rows, gate is not None)
        order = panel_order(rows, panels, gate is not None)
        parts: tuple[Tensor | None, Tensor | None] = (None, None)
        scales: Tensor | None = None
        if self.bits == 4:
            grouped = quantize_groups(weight, functions)
            self._group = grouped.group
            values, parts = grouped.codes, (grouped.scales, grouped.middles)
        else:
            values, scale = quantize(weight)
            if activations == torch.bfloat16:  # in sign and magnitude
                values = values.abs().view(torch.uint8) | ((values < 0).to(torch.uint8) << 7)
            scales = scale[order].contiguous()
            self._group = self.in_features
        num_bytes = self.in_features * self.bits // 8 * _PANEL
        if self.bits == 4:
            num_bytes += self.in_features // self._group * _HEADER_BYTES
        packed = panels_memory(panels * num_bytes)
        functions.weight_pack(
            values.contiguous(),
            *parts,
            group=self._group,
            activations=activations,
            is_gated=gate is not None,
            packed=packed,
        )
        padded_bias = None if bias is None else bias.float()[order].contiguous()
        self._kept = (packed, scales, padded_bias)
        self.weight_bytes = packed.nbytes + (0 if scales is None else scales.nbytes)
        plain = ProductStruct(
            self.in_features,
            rows,
            panels,
            0,
            0 if gate is None else GATES[gate],
            None,
            None if padded_bias is None else padded_bias.data_ptr(),
        )
        self._struct = WeightProductStruct(
            plain,
            self.bits,
            self._group,
            dtype_code(activations),
            None if scales is None else scales.data_ptr(),
            packed.data_ptr(),
        )
        self._address = ctypes.addressof(self._struct)

    @staticmethod
    def serves(weight: Tensor) -> bool:
        """Whether the products take this weight."""
        return weight.shape[1] % 4 == 0

    def before_gate(self, x: Tensor) -> Tensor:
        """What the gate and what it gates are made of: (..., 2 out) float32, the gate first."""
        assert self._struct.plain.epilogue, "it has no gate"
        x = x.contiguous()
        ungated = WeightProductStruct.from_buffer_copy(self._struct)
        num_panels = ungated.plain.panels
        ungated.plain.epilogue, ungated.plain.out_features = 0, num_panels * _PANEL
        rows = x.numel() // self.in_features
        panels = x.new_empty(rows, num_panels, 2, _PANEL // 2, dtype=torch.float32)
        if rows:
            sums = x.new_empty(rows * self.in_features // self._group, dtype=torch.float32)
            self._functions.weight_product(ctypes.addressof(ungated), x, panels, rows, sums)
        return halves_of(panels, self.out_features).reshape(*x.shape[:-1], 2 * self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self.out_features, dtype=self._out_dtype)
        rows = x.numel() // self.in_features
        if rows:
            sums = x.new_empty(rows * self.in_features // self._group, dtype=torch.float32)
            self._functions.weight_product(self._address, x, out, rows, sums)
        return out


def group_size(in_features: int) -> int | None:
    """Inputs of an output that share a scale in 4 bits; None where no size divides them."""
    return next((size for size in (64, 32) if in_features % size == 0), None)


def quantize_groups(weight: Tensor, functions: Kernels | None = None) -> Grouped:
    """Rounded to 4 bits, each group with the range of the least squared error.

    Shapes: weight (out, in). Raises ValueError where no group divides the inputs.
    """
    out, in_ = weight.shape
    group = group_size(in_)
    if group is None:
        raise ValueError(f"no group of 4-bit weights divides {in_} inputs")
    if functions is None:
        return Grouped(*_round_groups(weight.float().view(out, -1, group)))
    codes = torch.empty(out, in_, dtype=torch.uint8)
    scales = torch.empty(out, in_ // group, dtype=torch.bfloat16)
    middles = torch.empty_like(scales)
    functions.round_groups(weight.contiguous(), group, codes, scales, middles)
    return Grouped(codes, scales, middles)


def _round_groups(wide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (out, in), scales and middles (out, groups) of (out, groups, group).

    As `round_group` of weights.c, for other devices.
    """
    low, high = wide.amin(-1, keepdim=True), wide.amax(-1, keepdim=True)
    best: tuple[Tensor, ...] | None = None
    for share in _SHRUNK:
        scale = ((high - low) * (share / 15)).bfloat16().float()
        middle = (share * low + 8 * scale).bfloat16().float()
        codes = wide.sub(middle).div_(scale.clamp_min(1e-30)).round_().clamp_(-8, 7)
        error = (codes * scale + middle - wide).square_().sum(-1, keepdim=True)
        found = (error, codes, scale, middle)
        if best is None:
            best = found
        else:
            better = error < best[0]
            best = tuple(torch.where(better, a, b) for a, b in zip(found, best, strict=True))
    assert best is not None
    _, codes, scale, middle = best
    return (
        (codes + 8).to(torch.uint8).flatten(1),
        scale[..., 0].bfloat16(),
        middle[..., 0].bfloat16(),
    )
