"""Brings a model of transformers into the form of `decoder.py`, where it has it.

A class is on the list because its forward was read; what its configuration may
ask beyond that is looked at here, and whoever builds a decoder compares its
output with the model's before serving it.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from miao_worker.engine.cpu import kernels
from miao_worker.engine.cpu.decoder import Decoder, DecoderLayer, GatedLinear, Linear
from miao_worker.engine.cpu.fused_layers import FusedLayers
from miao_worker.engine.cpu.kernels import Kernels, LayerStruct
from miao_worker.engine.cpu.linears import LinearScheme
from miao_worker.engine.cpu.products import ProductLinear
from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.model_probe import ModelFacts

_CLASSES = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Phi3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
}


def is_adaptable(model: PreTrainedModel, facts: ModelFacts, block_size: int) -> bool:
    """Whether the kernels compute what this model asks for."""
    if type(model).__name__ not in _CLASSES:
        return False
    shapes = facts.layers.values()
    groups = {facts.calls[i].heads // shape.kv_heads for i, shape in facts.layers.items()}
    dims = {dim for shape in shapes for dim in (shape.key_dim, shape.value_dim)}
    return (
        activation_of(model.config) in kernels.ACTIVATIONS
        and len(dims) == 1
        and all(dim % 16 == 0 and dim <= kernels.MAX_HEAD_DIM for dim in dims)
        and len(groups) == 1
        and max(groups) <= kernels.MAX_ROWS
        and block_size % kernels.TILE == 0
    )


class Adapter:
    """Builds the decoder of one model, taking its layers apart as it goes."""

    def __init__(
        self,
        model: PreTrainedModel,
        facts: ModelFacts,
        functions: Kernels,
        scheme: LinearScheme,
        pool: KVPool,
        max_positions: int,
    ) -> None:
        self._model: Any = model
        self._config: Any = model.config
        self._facts = facts
        self._kernels = functions
        self._scheme = scheme
        self._pool = pool
        self._max_positions = max_positions
        self._kept: list[Tensor] = []
        self._rotary: dict[str | None, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def decoder(self) -> Decoder:
        base, head = self._model.model, self._model.lm_head
        layers = tuple(self._layer(i, base.layers) for i in range(len(base.layers)))
        final_norm, eps = self._norm_weight(base.norm), _eps(base.norm)
        fused = None
        if FusedLayers.serve(layers):
            fused = FusedLayers(self._kernels, layers, final_norm, eps)
        return Decoder(
            kernels=self._kernels,
            embedding=base.embed_tokens,
            layers=layers,
            final_norm=final_norm,
            head=(self._scheme.head or self._scheme.linear)(head.weight.detach(), _bias(head)),
            norm_eps=eps,
            dtype=self._scheme.activations,
            vocab_size=head.out_features,
            final_softcap=getattr(self._config, "final_logit_softcapping", None),
            kept=tuple(self._kept),
            fused=fused,
        )

    def _layer(self, index: int, layers: nn.ModuleList) -> DecoderLayer:
        layer: Any = layers[index]
        attention, mlp = layer.self_attn, layer.mlp
        has_sandwich = hasattr(layer, "pre_feedforward_layernorm")
        before_mlp, after_attention, after_mlp = (
            (
                layer.pre_feedforward_layernorm,
                layer.post_attention_layernorm,
                layer.post_feedforward_layernorm,
            )
            if has_sandwich
            else (layer.post_attention_layernorm, None, None)
        )
        result = DecoderLayer(
            qkv=self._joined(attention, "qkv_proj", ("q_proj", "k_proj", "v_proj")),
            output=self._joined(attention, "o_proj", ()),
            gate_up=self._gated(mlp),
            down=self._joined(mlp, "down_proj", ()),
            attention_norm=self._norm_weight(layer.input_layernorm),
            mlp_norm=self._norm_weight(before_mlp),
            attention=self._attention(index, attention),
            after_attention_norm=after_attention and self._norm_weight(after_attention),
            after_mlp_norm=after_mlp and self._norm_weight(after_mlp),
        )
        layers[index] = nn.Identity()  # its weights were copied; let them go before the next
        return result

    def _joined(self, parent: Any, whole: str, parts: tuple[str, ...]) -> nn.Module:
        """One linear layer of several that read the same input."""
        return self._scheme.linear(*self._tensors(parent, whole, parts))

    def _gated(self, mlp: Any) -> Linear:
        """The gate and what it gates, with the activation between."""
        weight, bias = self._tensors(mlp, "gate_up_proj", ("gate_proj", "up_proj"))
        activation = activation_of(self._config)
        if self._scheme.gated is not None and ProductLinear.serves(weight):
            return self._scheme.gated(weight, bias, activation)
        linear = self._scheme.linear(weight, bias)
        return GatedLinear(self._kernels, linear, kernels.ACTIVATIONS[activation])

    def _tensors(
        self, parent: Any, whole: str, parts: tuple[str, ...]
    ) -> tuple[Tensor, Tensor | None]:
        names = (whole,) if hasattr(parent, whole) else parts
        found = [getattr(parent, name) for name in names]
        weight = torch.cat([layer.weight.detach() for layer in found])
        biases = [_bias(layer) for layer in found]
        if all(bias is None for bias in biases):
            return weight, None
        filled = [
            weight.new_zeros(layer.out_features) if bias is None else bias
            for layer, bias in zip(found, biases, strict=True)
        ]
        return weight, torch.cat(filled)

    def _attention(self, index: int, attention: Any) -> LayerStruct:
        call, shape = self._facts.calls[index], self._facts.layers[index]
        cos, sin = self._rotary_tables(index)
        keys, values = self._pool.tensors(index)
        scales = self._pool.scales(index)
        query_norm, key_norm = (
            self._norm_weight(getattr(attention, name)) if hasattr(attention, name) else None
            for name in ("q_norm", "k_norm")
        )
        return LayerStruct(
            dtype=kernels.dtype_code(self._scheme.activations),
            heads=call.heads,
            kv_heads=shape.kv_heads,
            dim=shape.key_dim,
            rotary_dim=2 * cos.shape[1],
            block_size=self._pool.block_size,
            window=call.window or 0,
            scale=call.scaling,
            softcap=call.softcap or 0.0,
            norm_eps=_eps(attention.q_norm) if query_norm is not None else 0.0,
            query_norm=None if query_norm is None else query_norm.data_ptr(),
            key_norm=None if key_norm is None else key_norm.data_ptr(),
            cos=cos.data_ptr(),
            sin=sin.data_ptr(),
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            **({} if scales is None else _pointers(scales)),
        )

    def _rotary_tables(self, index: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (positions, rotary_dim / 2), one pair for each kind of layer."""
        rotary = self._model.model.rotary_emb
        kind = None
        if "layer_type" in inspect.signature(rotary.forward).parameters:
            kind = self._config.layer_types[index]
        tables = self._rotary.get(kind)
        if tables is None:
            positions = torch.arange(self._max_positions)[None]
            like = torch.empty(0, dtype=torch.float32)
            pair = rotary(like, positions, *(() if kind is None else (kind,)))
            cos, sin = (t[0, :, : t.shape[-1] // 2].contiguous() for t in pair)
            self._kept += [cos, sin]
            tables = self._rotary[kind] = (cos, sin)
        return tables

    def _norm_weight(self, norm: Any) -> Tensor:
        """What the norm multiplies with; Gemma keeps its distance from one."""
        weight: Tensor = norm.weight.detach().float()
        if "Gemma" in type(norm).__name__:
            weight = weight + 1.0
        weight = weight.contiguous()
        self._kept.append(weight)
        return weight


def _pointers(scales: tuple[Tensor, Tensor]) -> dict[str, int]:
    return {"key_scales": scales[0].data_ptr(), "value_scales": scales[1].data_ptr()}


def activation_of(config: Any) -> str:
    """Of the gate, by its name."""
    name = getattr(config, "hidden_activation", None) or config.hidden_act
    return str(name)


def _eps(norm: Any) -> float:
    return float(getattr(norm, "variance_epsilon", None) or norm.eps)


def _bias(layer: Any) -> Tensor | None:
    return None if layer.bias is None else layer.bias.detach()
