"""All layers of a decoder in one call of the compiled kernels.

Between two kernels Python takes microseconds, which a large model does not
notice and a small one, or a single row, does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from miao_worker.engine.cpu.decoder import DecoderLayer
from miao_worker.engine.cpu.kernels import Kernels, LayersStruct, LayerWeightsStruct, StepStruct
from miao_worker.engine.cpu.products import ProductLinear


class FusedLayers:
    """The layers' addresses, and the memory that they work in."""

    def __init__(
        self, functions: Kernels, layers: Sequence[DecoderLayer], final_norm: Tensor, eps: float
    ) -> None:
        self._functions = functions
        self._kept = (tuple(layers), final_norm)
        self._weights = (LayerWeightsStruct * len(layers))(*map(_struct, layers))
        hidden = len(final_norm)
        self._struct = LayersStruct(
            len(layers), hidden, eps, ctypes.addressof(self._weights), final_norm.data_ptr()
        )
        self._work = torch.empty(0, dtype=torch.uint8)

    @staticmethod
    def serve(layers: Sequence[DecoderLayer]) -> bool:
        """Whether all that these layers multiply is a compiled product."""
        return all(
            isinstance(linear, ProductLinear)
            for layer in layers
            for linear in (layer.qkv, layer.output, layer.gate_up, layer.down)
        )

    def __call__(self, residual: Tensor, step: StepStruct, wanted: Tensor | None) -> Tensor:
        """What the head takes: (n, hidden) bfloat16.

        Shapes: residual (tokens, hidden) float32, which is used up; wanted (n,)
        without repeats, None for all tokens.
        """
        if wanted is not None and bool((wanted[1:] < wanted[:-1]).any()):
            ascending, order = wanted.sort()  # rows are kept in their places, from the first on
            return self._run(residual, step, ascending)[order.argsort()]
        return self._run(residual, step, wanted)

    def _run(self, residual: Tensor, step: StepStruct, wanted: Tensor | None) -> Tensor:
        tokens, hidden = residual.shape
        rows = tokens if wanted is None else len(wanted)
        out = torch.empty(rows, hidden, dtype=torch.bfloat16)
        needed = self._functions.layers_bytes(self._struct, tokens)
        if needed > len(self._work):
            self._work = torch.empty(needed, dtype=torch.uint8)  # kept: new memory is slow
        self._functions.layers(self._struct, step, residual, wanted, self._work, out)
        return out


def _struct(layer: DecoderLayer) -> LayerWeightsStruct:
    linears = (layer.qkv, layer.output, layer.gate_up, layer.down)
    norms = (
        layer.attention_norm,
        layer.mlp_norm,
        layer.after_attention_norm,
        layer.after_mlp_norm,
    )
    return LayerWeightsStruct(
        ctypes.addressof(layer.attention),
        *(linear.address for linear in linears if isinstance(linear, ProductLinear)),
        *(None if norm is None else norm.data_ptr() for norm in norms),
    )
