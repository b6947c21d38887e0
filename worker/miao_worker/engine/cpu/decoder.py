"""A decoder-only transformer of the Llama family, its layers as few large operations.

What transformers computes in some forty operations a layer is here four matrix
products, the kernels between them, and nothing else; `adapt.py` brings the
weights of a loaded model into this form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from miao_worker.engine.cpu.kernels import Kernels, LayerStruct, StepStruct

if TYPE_CHECKING:
    from miao_worker.engine.cpu.adapted_layers import AdaptedLayers
    from miao_worker.engine.cpu.fused_layers import FusedLayers

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One layer's weights. The norms' are float32, (hidden,)."""

    qkv: Linear  # to (heads + 2 kv_heads) * head_dim
    output: Linear
    gate_up: Linear  # to intermediate: activation(gate) * up
    down: Linear
    attention_norm: Tensor
    mlp_norm: Tensor
    attention: LayerStruct
    after_attention_norm: Tensor | None = None  # of what the attention adds (Gemma)
    after_mlp_norm: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Decoder:
    """The whole model, from token ids to logits."""

    kernels: Kernels
    embedding: nn.Module
    layers: tuple[DecoderLayer, ...]
    final_norm: Tensor
    head: Linear
    norm_eps: float
    dtype: torch.dtype  # of the activations
    vocab_size: int
    final_softcap: float | None
    kept: tuple[object, ...]  # memory that the kernels' structures point to
    fused: FusedLayers | None = None  # all layers in one call, where their kernels allow it
    adapted: AdaptedLayers | None = None  # the layers in steps with adapters

    def forward(self, token_ids: Tensor, step: StepStruct, wanted: Tensor | None) -> Tensor:
        """Logits of the wanted tokens. Shapes: token_ids (tokens,), wanted (n,), None for all.

        Returns (n, vocab). The last layer's MLP runs for the wanted tokens alone.
        """
        residual = self.embedding(token_ids).float()
        adapters = None if self.adapted is None else self.adapted.adaptation.step
        if self.fused is not None:
            return self._logits(self.fused(residual, step, wanted, adapters))
        layers = self.layers
        if self.adapted is not None and adapters is not None:
            layers = self.adapted.layers
        return self._logits(self._run_layers(layers, residual, step, wanted))

    def _run_layers(
        self,
        layers: tuple[DecoderLayer, ...],
        residual: Tensor,
        step: StepStruct,
        wanted: Tensor | None,
    ) -> Tensor:
        x = self._like(residual)
        self._add_norm(residual, None, None, self.layers[0].attention_norm, x)
        last = len(self.layers) - 1
        for i, layer in enumerate(layers):
            qkv = layer.qkv(x)
            attention = layer.attention
            queries = qkv.new_empty(len(qkv), attention.heads * attention.dim)
            attended = torch.empty_like(queries)
            self.kernels.attention(attention, step, qkv, queries, attended)
            if i == last and wanted is not None:
                residual = residual.index_select(0, wanted)
                attended = attended.index_select(0, wanted)
                x = self._like(residual)
                if not len(residual):
                    return x
            delta = layer.output(attended)
            self._add_norm(residual, delta, layer.after_attention_norm, layer.mlp_norm, x)
            delta = layer.down(layer.gate_up(x))
            following = self.final_norm if i == last else self.layers[i + 1].attention_norm
            self._add_norm(residual, delta, layer.after_mlp_norm, following, x)
        return x

    def _logits(self, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_empty(0, self.vocab_size)
        logits = self.head(x)
        if self.final_softcap is not None:
            logits = torch.tanh(logits / self.final_softcap) * self.final_softcap
        return logits

    def _like(self, residual: Tensor) -> Tensor:
        return torch.empty_like(residual, dtype=self.dtype)

    def _add_norm(
        self,
        residual: Tensor,
        delta: Tensor | None,
        delta_weight: Tensor | None,
        weight: Tensor,
        out: Tensor,
    ) -> None:
        self.kernels.add_rms_norm(residual, delta, delta_weight, weight, self.norm_eps, out)


@dataclass(frozen=True, slots=True)
class GatedLinear:
    """activation(gate) * up, of a linear layer that gives both."""

    kernels: Kernels
    linear: Linear  # to 2 * intermediate, the gate first
    activation: int

    def __call__(self, x: Tensor) -> Tensor:
        gate_up = self.linear(x)
        gated = gate_up.new_empty(gate_up.shape[0], gate_up.shape[1] // 2)
        self.kernels.gated_activation(gate_up, self.activation, gated)
        return gated
