"""Linear layers on the compiled matrix products: bfloat16, or 8-bit weights and activations.

The weight is packed once, into memory of large pages, in the order in which the
product reads it (see kernels.c).
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from miao_worker.engine import large_pages
from miao_worker.engine.cpu.kernels import GATES, Kernels, ProductStruct, num_panels

_PANEL = 32
_READ_AHEAD = 1 << 20  # the product's prefetches may point beyond the last panel


class ProductLinear(nn.Module):
    """y = x W^T + b, or activation(gate) * up of it, on packed panels.

    x is bfloat16, (..., in); y is `out_dtype`, (..., out), half as wide with a gate.
    In int8 each output of W and each row of x has a scale of its own, symmetric
    around zero, and sums are exact.
    """

    def __init__(
        self,
        functions: Kernels,
        weight: Tensor,
        bias: Tensor | None,
        *,
        is_int8: bool = False,
        gate: str | None = None,
        out_dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """Shapes: weight (out, in), bias (out,); with a gate its rows come first, up's follow."""
        super().__init__()
        rows, self.in_features = weight.shape
        self.out_features = rows // 2 if gate else rows
        self._functions = functions
        self._out_dtype = out_dtype
        panels = num_panels(rows, gate is not None)
        self.order = order = panel_order(rows, panels, gate is not None)
        scales = sums = None
        values = weight.contiguous()
        if is_int8:
            values, scale = quantize(weight)
            scales = scale[order].contiguous()
            sums = values.sum(dim=1, dtype=torch.int32)[order].contiguous()
        packed = panels_memory(panels * _PANEL * self.in_features * values.itemsize)
        functions.pack(values, gate is not None, packed)
        padded_bias = None if bias is None else bias.float()[order].contiguous()
        self._kept = (packed, scales, sums, padded_bias)
        self.weight_bytes = packed.nbytes + sum(x.nbytes for x in (scales, sums) if x is not None)
        self._struct = ProductStruct(
            self.in_features,
            rows,
            panels,
            int(is_int8),
            0 if gate is None else GATES[gate],
            *(None if each is None else each.data_ptr()
              for each in (packed, padded_bias, scales, sums)),
        )  # fmt: skip
        self.address = ctypes.addressof(self._struct)  # of `Product`, for kernels that call it

    @staticmethod
    def serves(weight: Tensor) -> bool:
        """Whether the products take this weight."""
        return weight.dtype == torch.bfloat16 and weight.shape[1] % 4 == 0

    def before_gate(self, x: Tensor) -> Tensor:
        """What the gate and what it gates are made of: (..., 2 out) float32, the gate first."""
        assert self._struct.epilogue, "it has no gate"
        x, lanes = x.contiguous(), _PANEL // 2
        plain = ProductStruct.from_buffer_copy(self._struct)
        plain.epilogue, plain.out_features = 0, plain.panels * _PANEL
        rows = x.numel() // self.in_features
        panels = x.new_empty(rows, plain.panels, 2, lanes, dtype=torch.float32)
        if rows:
            self._functions.product(ctypes.addressof(plain), x, panels, rows)
        return halves_of(panels, self.out_features).reshape(*x.shape[:-1], 2 * self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self.out_features, dtype=self._out_dtype)
        rows = x.numel() // self.in_features
        if rows:
            self._functions.product(self.address, x, out, rows)
        return out


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded to 8 bits with a scale for each output: int8 (out, in), float32 (out,)."""
    wide = weight.float()
    scale = wide.abs().amax(dim=1) / 127
    rounded = wide.div(scale.clamp_min(1e-30)[:, None]).round_()
    return rounded.to(torch.int8), scale


def halves_of(panels: Tensor, out_features: int) -> Tensor:
    """What a gated layer's panels hold, in the order of its weight's rows.

    Shapes: panels (rows, panels, 2, 16); returns (rows, 2 out), the gate first.
    """
    return panels.transpose(1, 2).flatten(2)[:, :, :out_features].flatten(1)


def panel_order(rows: int, panels: int, is_gated: bool) -> Tensor:
    """Which of the weight's rows stands at each place; padding repeats the last one."""
    places = torch.arange(panels * _PANEL)
    if not is_gated:
        return places.clamp_max(rows - 1)
    lane, base = places % _PANEL, places // _PANEL * 16
    within = (base + lane % 16).clamp_max(rows // 2 - 1)
    return torch.where(lane < 16, within, within + rows // 2)


def panels_memory(num_bytes: int) -> Tensor:
    """Where packed panels lie: (num_bytes,) uint8, with room for reading ahead behind it."""
    return large_pages.zeros(num_bytes + _READ_AHEAD)[:num_bytes]
