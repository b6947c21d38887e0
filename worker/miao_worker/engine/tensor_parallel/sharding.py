"""Leaves of a loaded model the share that one rank computes.

Which layer is cut how says the model's own plan in transformers: "colwise" by its outputs,
"rowwise" by its inputs. What is cut stays a plain tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.tensor_parallel.group import Group
from miao_worker.engine.tensor_parallel.heads import HeadShare
from miao_worker.engine.tensor_parallel.layers import (
    GatheredLinear,
    SharedEmbedding,
    SharedHead,
    SummedLinear,
    frozen,
    keep_outputs,
)

_WHOLE = {"replicated_with_grad_allreduce", "replicate"}
_EMBEDDINGS = {"embedding_rowwise", "embedding_colwise"}  # cut with the head, whatever they say
_GATHERED = {"colwise_gather_output", "colwise_rep"}
_SPLIT = {"rowwise_split_input", "rowwise_rep"}
_LINEAR = {"colwise", "rowwise", *_GATHERED, *_SPLIT}
_PARAMETER = {"colwise", "rowwise", "packed_colwise"}
_EXPERTS = "moe_tp_experts"

Styles = dict[str, str]  # by the name of a child or parameter


def take_share(model: PreTrainedModel, name: str, group: Group) -> None:
    """Cut the model down to this rank's share, in place.

    Raises ModelLoadError where it cannot be cut by so many ranks.
    """
    plan = _plan(model, name)
    sharding = _Sharding(model.config.model_type, name, group)
    for path, owner in list(model.named_modules()):
        styles = _styles(plan, path, owner)
        if styles:
            sharding.cut(owner, styles)
    _share_vocabulary(model, group)


def _plan(model: PreTrainedModel, name: str) -> Mapping[str, str]:
    """The model's plan, by the path of layers whose numbers are stars."""
    config = model.config.get_text_config(decoder=True)
    plan = config.base_model_tp_plan
    if not plan:
        raise ModelLoadError(
            f"{name} ({model.config.model_type}) has no tensor-parallel plan in transformers; "
            "set tensor_parallel_size to 1."
        )
    return {f"{model.base_model_prefix}.{path}": style for path, style in plan.items()}


def _styles(plan: Mapping[str, str], path: str, owner: nn.Module) -> Styles:
    """How an owner's children and parameters are cut."""
    prefix = ".".join("*" if part.isdigit() else part for part in path.split("."))
    named = [*owner.named_children(), *owner.named_parameters(recurse=False)]
    found = {name: plan.get(f"{prefix}.{name}") for name, _ in named}
    left = _WHOLE | _EMBEDDINGS
    return {name: style for name, style in found.items() if style and style not in left}


def _share_vocabulary(model: PreTrainedModel, group: Group) -> None:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and head.weight is embedding.weight
    if isinstance(head, nn.Linear):
        model.set_output_embeddings(shared := SharedHead(head, group))
    if isinstance(embedding, nn.Embedding):
        model.set_input_embeddings(vectors := SharedEmbedding(embedding, group))
        if is_tied and isinstance(head, nn.Linear):
            shared.linear.weight = vectors.inner.weight


class _Sharding:
    """Cuts the layers of one model for one rank."""

    def __init__(self, kind: str, name: str, group: Group) -> None:
        """kind: the model's type, as transformers names it."""
        self._kind = kind
        self._name = name
        self._group = group

    def cut(self, owner: nn.Module, styles: Styles) -> None:
        """Cut an owner's children and parameters."""
        if self._is_fused_attention(styles):
            self._cut_fused_attention(owner)
        elif _is_fused_gate(styles):
            self._cut_fused_gate(owner)
        else:
            self._cut_each(owner, styles)

    def _cut_each(self, owner: Any, styles: Styles) -> None:
        rows_of = self._attention_rows(owner, styles)
        for name, style in styles.items():
            child = getattr(owner, name)
            if isinstance(child, nn.Parameter) and style in _PARAMETER:
                setattr(owner, name, frozen(self._cut_parameter(child, style, name)))
            elif style == _EXPERTS:
                child.register_forward_hook(lambda _, __, output: self._group.sum_(output))
            elif isinstance(child, nn.Linear) and style in _LINEAR:
                self._cut_linear(owner, name, style, rows_of.get(name))
            else:
                raise self._refusal(f"its {name} is cut as {style!r}, which is not supported")

    def _cut_linear(self, owner: nn.Module, name: str, style: str, rows: Tensor | None) -> None:
        linear: nn.Linear = getattr(owner, name)
        if style == "colwise":
            keep_outputs(linear, self._even(linear.out_features, name) if rows is None else rows)
        elif style in _GATHERED:
            outputs = self._even(linear.out_features, name)
            setattr(owner, name, GatheredLinear(linear, outputs, self._group))
        else:
            inputs = self._even(linear.in_features, name)
            setattr(owner, name, SummedLinear(linear, inputs, self._group, style in _SPLIT))

    def _cut_parameter(self, weight: Tensor, style: str, name: str) -> Tensor:
        """Of (experts, outputs, inputs): a share of the one or the other.

        Packed are the outputs of gate and of up, of each of which a share is taken.
        """
        if style == "rowwise":
            kept = self._even(weight.shape[-1], name)
            return weight[..., kept.start : kept.stop]
        parts = 2 if style == "packed_colwise" else 1
        return _take_parts(weight, -2, parts, lambda count: self._even(count, name))

    def _attention_rows(self, owner: Any, styles: Styles) -> dict[str, Tensor]:
        """The rows of keys and values that this rank's query heads need, by projection."""
        if {styles.get(name) for name in ("q_proj", "k_proj", "v_proj")} != {"colwise"}:
            if "query_key_value" in styles:  # a head's three lie together
                self._check_heads(owner.config.num_attention_heads)
            return {}
        kv_heads = owner.k_proj.out_features // owner.head_dim
        value_dim = owner.v_proj.out_features // kv_heads
        output = next(name for name, style in styles.items() if style == "rowwise")
        heads = getattr(owner, output).in_features // value_dim
        self._check_norms(owner)
        share = self._share_of_heads(owner, heads, kv_heads)
        return {
            "k_proj": _rows_of_heads(share.kv_heads, owner.head_dim),
            "v_proj": _rows_of_heads(share.kv_heads, value_dim),
        }

    def _share_of_heads(self, owner: Any, heads: int, kv_heads: int) -> HeadShare:
        """The rank's heads; the owner counts no others from now on."""
        self._check_heads(heads)
        share = HeadShare.of(heads, kv_heads, self._group.rank, self._group.size)
        counts = {
            "num_heads": len(share.heads),
            "num_attention_heads": len(share.heads),
            "num_key_value_heads": len(share.kv_heads),
            "num_key_value_groups": len(share.heads) // len(share.kv_heads),
        }
        for name, count in counts.items():
            if hasattr(owner, name):
                setattr(owner, name, count)
        return share

    def _is_fused_attention(self, styles: Styles) -> bool:
        """Queries, keys and values from one product, one behind the other, as Phi-3 has them.

        transformers' plan gathers them, so that every rank would hold all keys and values.
        """
        return self._kind == "phi3" and styles.get("qkv_proj") in _GATHERED

    def _cut_fused_attention(self, owner: Any) -> None:
        config, dim = copy.copy(owner.config), owner.head_dim
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        share = self._share_of_heads(owner, heads, kv_heads)
        keys = _rows_of_heads(share.kv_heads, dim)
        parts = [_rows_of_heads(share.heads, dim), heads * dim + keys]
        keep_outputs(owner.qkv_proj, torch.cat([*parts, (heads + kv_heads) * dim + keys]))
        inputs = self._even(owner.o_proj.in_features, "o_proj")
        owner.o_proj = SummedLinear(owner.o_proj, inputs, self._group, splits=False)
        config.num_attention_heads = len(share.heads)
        config.num_key_value_heads = len(share.kv_heads)
        owner.config = config  # where it reads how the product is divided

    def _cut_fused_gate(self, owner: Any) -> None:
        """Gate and up from one product, whose halves the layer takes: a share of each half."""
        half = owner.gate_up_proj.out_features // 2
        kept = torch.tensor(self._even(half, "gate_up_proj"))
        keep_outputs(owner.gate_up_proj, torch.cat([kept, half + kept]))
        inputs = self._even(owner.down_proj.in_features, "down_proj")
        owner.down_proj = SummedLinear(owner.down_proj, inputs, self._group, splits=False)

    def _even(self, count: int, name: str) -> range:
        if count % self._group.size:
            raise self._refusal(f"its {name} has a dimension of {count}")
        return self._group.piece_of(count)

    def _check_heads(self, heads: int) -> None:
        if heads % self._group.size:
            raise self._refusal(f"it has {heads} attention heads")

    def _check_norms(self, owner: nn.Module) -> None:
        for name in ("q_norm", "k_norm"):
            weight = getattr(getattr(owner, name, None), "weight", None)
            if weight is not None and weight.numel() != owner.head_dim:
                raise self._refusal(f"its {name} has a weight of its own for each head")

    def _refusal(self, why: str) -> ModelLoadError:
        return ModelLoadError(
            f"{self._name} ({self._kind}) cannot be divided with tensor_parallel_size "
            f"{self._group.size}: {why}; choose another tensor_parallel_size, or 1."
        )


def _is_fused_gate(styles: Styles) -> bool:
    return styles.get("gate_up_proj") in _GATHERED and styles.get("down_proj") in _SPLIT


def _rows_of_heads(heads: Iterable[int], dim: int) -> Tensor:
    """The rows of a projection that make these heads."""
    return (torch.tensor(list(heads))[:, None] * dim + torch.arange(dim)).ravel()


def _take_parts(weight: Tensor, dim: int, parts: int, kept: Callable[[int], range]) -> Tensor:
    """Of each of `parts` equal parts of a dimension what is kept."""
    pieces = weight.chunk(parts, dim)
    taken = kept(pieces[0].shape[dim])
    return torch.cat([piece.narrow(dim, taken.start, len(taken)) for piece in pieces], dim)
