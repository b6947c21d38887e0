"""All layers of a decoder in one call of the compiled kernels.

Between two kernels Python takes microseconds, which a large model does not
notice and a small one, or a single row, does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from miao_worker.engine.adapters.stack import Site
from miao_worker.engine.adapters.step import AdapterStep
from miao_worker.engine.cpu.decoder import DecoderLayer
from miao_worker.engine.cpu.fused_adapters import FusedAdapters
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
        self._adapters: FusedAdapters | None = None

    @staticmethod
    def serve(layers: Sequence[DecoderLayer]) -> bool:
        """Whether all that these layers multiply is a compiled product."""
        return all(
            isinstance(linear, ProductLinear)
            for layer in layers
            for linear in (layer.qkv, layer.output, layer.gate_up, layer.down)
        )

    def adapt(self, sites: Sequence[Site]) -> None:
        """Take adapters too. `sites`: what each product is made of, in the layers' order."""
        layers, _ = self._kept
        products = [linear for layer in layers for linear in _products(layer)]
        self._adapters = FusedAdapters(list(zip(products, sites, strict=True)))

    def __call__(
        self,
        residual: Tensor,
        step: StepStruct,
        wanted: Tensor | None,
        adapters: AdapterStep | None = None,
    ) -> Tensor:
        """What the head takes: (n, hidden) bfloat16.

        Shapes: residual (tokens, hidden) float32, which is used up; wanted (n,)
        without repeats, None for all tokens.
        """
        if wanted is not None and bool((wanted[1:] < wanted[:-1]).any()):
            ascending, order = wanted.sort()  # rows are kept in their places, from the first on
            return self._run(residual, step, ascending, adapters)[order.argsort()]
        return self._run(residual, step, wanted, adapters)

    def _run(
        self,
        residual: Tensor,
        step: StepStruct,
        wanted: Tensor | None,
        adapters: AdapterStep | None,
    ) -> Tensor:
        tokens, hidden = residual.shape
        rows = tokens if wanted is None else len(wanted)
        out = torch.empty(rows, hidden, dtype=torch.bfloat16)
        added = None
        if adapters is not None and self._adapters is not None:
            added = self._adapters.of(adapters, wanted)
        columns = 0 if added is None else added.struct.columns
        needed = self._functions.layers_bytes(self._struct, tokens, columns)
        if needed > len(self._work):
            self._work = torch.empty(needed, dtype=torch.uint8)  # kept: new memory is slow
        struct = None if added is None else added.struct
        self._functions.layers(self._struct, step, residual, wanted, struct, self._work, out)
        return out


def _products(layer: DecoderLayer) -> list[ProductLinear]:
    linears = (layer.qkv, layer.output, layer.gate_up, layer.down)
    return [linear for linear in linears if isinstance(linear, ProductLinear)]


def _struct(layer: DecoderLayer) -> LayerWeightsStruct:
    norms = (
        layer.attention_norm,
        layer.mlp_norm,
        layer.after_attention_norm,
        layer.after_mlp_norm,
    )
    return LayerWeightsStruct(
        ctypes.addressof(layer.attention),
        *(linear.address for linear in _products(layer)),
        *(None if norm is None else norm.data_ptr() for norm in norms),
    )
