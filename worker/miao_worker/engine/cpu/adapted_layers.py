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

    @property
    def are_needed(self) -> bool:
        return self.adaptation.step is not None

    @classmethod
    def of(
        cls,
        layers: Sequence[DecoderLayer],
        modules: Modules,
        adaptation: Adaptation,
        activation: str,
    ) -> AdaptedLayers:
        """Wrap the products of `layers`. `modules` are the model's, as it was before."""
        adapted = []
        for index, layer in enumerate(layers):
            is_last = index == len(layers) - 1

            def site(parent: str, *names: str, index: int = index, chosen: bool = is_last) -> Site:
                # The last layer goes on with the wanted rows alone once it has attended.
                chosen = chosen and names[-1] != "v_proj"
                return _site(modules, f"model.layers.{index}.{parent}", names, chosen)

            attention, mlp = "self_attn", "mlp"
            gate_up = site(mlp, "gate_up_proj", "gate_proj", "up_proj")
            adapted.append(
                replace(
                    layer,
                    qkv=_adapted(
                        layer.qkv,
                        site(attention, "qkv_proj", "q_proj", "k_proj", "v_proj"),
                        adaptation,
                    ),
                    output=_adapted(layer.output, site(attention, "o_proj"), adaptation),
                    gate_up=_adapted_gate(layer.gate_up, gate_up, adaptation, activation),
                    down=_adapted(layer.down, site(mlp, "down_proj"), adaptation),
                )
            )
        return cls(tuple(adapted), adaptation)


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
