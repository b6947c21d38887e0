"""A decoder's layers with the adapters' share, beside the plain ones and on the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from miao_worker.engine.adapters.files import Modules
from miao_worker.engine.adapters.stack import Part, Site
from miao_worker.engine.adapters.step import Adaptation
from miao_worker.engine.cpu.decoder import DecoderLayer, GatedLinear, Linear
from miao_worker.engine.errors import ModelLoadError


@dataclass(frozen=True, slots=True)
class AdaptedLayers:
    """The layers for steps in which a sequence has an adapter."""

    layers: tuple[DecoderLayer, ...]
    adaptation: Adaptation

    @classmethod
    def of(
        cls,
        layers: Sequence[DecoderLayer],
        sites: Sequence[Site],
        adaptation: Adaptation,
        activation: str,
    ) -> AdaptedLayers:
        """Wrap the products of `layers`, which `sites` name."""
        adapted = []
        for index, layer in enumerate(layers):
            qkv, output, gate_up, down = sites[4 * index : 4 * index + 4]
            adapted.append(
                replace(
                    layer,
                    qkv=_adapted(layer.qkv, qkv, adaptation),
                    output=_adapted(layer.output, output, adaptation),
                    gate_up=_adapted_gate(layer.gate_up, gate_up, adaptation, activation),
                    down=_adapted(layer.down, down, adaptation),
                )
            )
        return cls(tuple(adapted), adaptation)


def sites_of(modules: Modules, num_layers: int) -> list[Site]:
    """What each product of each layer is made of: qkv, output, gate and up, down.

    `modules` are the model's, as it was before its layers were joined.
    """
    found = []
    for index in range(num_layers):
        layer = f"model.layers.{index}"
        # The last layer goes on with the wanted rows alone once it has attended.
        chosen = index == num_layers - 1
        found += [
            _site(modules, f"{layer}.self_attn", ("qkv_proj", "q_proj", "k_proj", "v_proj"), False),
            _site(modules, f"{layer}.self_attn", ("o_proj",), chosen),
            _site(modules, f"{layer}.mlp", ("gate_up_proj", "gate_proj", "up_proj"), chosen),
            _site(modules, f"{layer}.mlp", ("down_proj",), chosen),
        ]
    return found


def _site(modules: Modules, parent: str, names: Sequence[str], is_chosen: bool) -> Site:
    parts, begin = [], 0
    for name in names:
        shape = modules.get(f"{parent}.{name}")
        if shape is not None:
            parts.append(Part(f"{parent}.{name}", begin, begin + shape[1]))
            begin += shape[1]
    return Site(tuple(parts), is_chosen)


def _adapted(linear: Linear, site: Site, adaptation: Adaptation) -> Linear:
    def apply(x: Tensor) -> Tensor:
        y = linear(x)
        if adaptation.step is not None:
            adaptation.step.add(site, x, y)
        return y

    return apply


def _adapted_gate(gate: Linear, site: Site, adaptation: Adaptation, activation: str) -> Linear:
    """The adapters' share belongs before the activation."""
    before_gate = getattr(gate, "before_gate", None)
    if before_gate is None and not isinstance(gate, GatedLinear):
        raise ModelLoadError(
            f"Adapters are not supported beside layers of {type(gate).__name__}; "
            "choose another kind of quantization, or serve without adapters."
        )

    def apply(x: Tensor) -> Tensor:
        step = adaptation.step
        if step is None or not step.touches(site):
            return gate(x)
        if isinstance(gate, GatedLinear):
            return GatedLinear(gate.kernels, _adapted(gate.linear, site, adaptation),
                               gate.activation)(x)  # fmt: skip
        assert before_gate is not None
        sums: Tensor = before_gate(x)
        step.add(site, x, sums)
        gates, ups = sums.chunk(2, dim=-1)
        return (_activate(gates, activation) * ups).to(x.dtype)

    return apply


def _activate(x: Tensor, activation: str) -> Tensor:
    if activation in ("silu", "swish"):
        return F.silu(x)
    return F.gelu(x, approximate="tanh")
