"""Replaces a model's linear layers on the CPU by oneDNN's, packed once at load.

`nn.Linear` hands its weight to the matrix product as it lies in memory; oneDNN
first brings it into the order its kernel reads, and at few rows doing that once
and not in every step decides the time.

Where the CPU multiplies bfloat16 itself, weights and activations stay in it.
Elsewhere the 16-bit product is several times slower than the float32 one, so
the model computes in float32 on its 16-bit weights: packed in float32 for
several rows, and unpacked for one row: as they are where that row waits for
memory, in float32 where the whole model fits the cache.

Where the compiled kernels have products of their own, those take the place of
oneDNN's: they are faster at few rows and as fast at many.

A float32 model is left as it is: its output is compared with the reference's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from miao_worker.engine.cpu import kernels
from miao_worker.engine.cpu.kernels import Kernels
from miao_worker.engine.cpu.products import ProductLinear
from miao_worker.engine.cpu.weights import WeightLinear
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.memory import free_bytes

_log = logging.getLogger(__name__)

_ROWS_HINT = 32  # the batch that the packed order is chosen for
_CACHE_BYTES = 32 << 20  # weights that fit the last cache do not wait for memory
_MEMORY_SHARE = 0.6  # of the free memory that packed copies may take
# The overload, not the packet: naming it spares each call a search among them.
_linear_pointwise: Any = getattr(
    getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None
)


class PlainLinear(nn.Module):
    """y = x W^T + b by torch's own product."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Shapes: weight (out, in), bias (out,)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._weight, self._bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class PackedLinear(nn.Module):
    """y = x W^T + b with a packed weight in the activations' dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Shapes: weight (out, in), bias (out,)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._packed = _pack(weight)
        self._bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return _multiply(x, self._packed, self._bias)


class WidenedLinear(nn.Module):
    """y = x W^T + b in float32 on a 16-bit weight."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, is_cached: bool = False) -> None:
        """Shapes: weight (out, in), bias (out,). `is_cached`: the model fits the CPU's cache."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._row_weight = weight.float() if is_cached else weight
        self._packed = _pack(weight.float())
        self._bias = None if bias is None else bias.float()

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() != self.in_features:
            return _multiply(x, self._packed, self._bias)
        y = F.linear(x.to(self._row_weight.dtype), self._row_weight).float()
        return y if self._bias is None else y.add_(self._bias)


class WidenedEmbedding(nn.Module):
    """A 16-bit embedding table whose rows are read as float32."""

    def __init__(self, weight: Tensor) -> None:
        """Shapes: weight (tokens, dim)."""
        super().__init__()
        self.num_embeddings = weight.shape[0]
        self._narrow = weight

    def forward(self, token_ids: Tensor) -> Tensor:
        return F.embedding(token_ids, self._narrow).float()


class LinearFactory(Protocol):
    """Makes a linear layer of a weight (out, in) and a bias (out,)."""

    def __call__(self, weight: Tensor, bias: Tensor | None) -> nn.Module: ...


@dataclass(frozen=True, slots=True)
class LinearScheme:
    """How a model's linear layers are computed on this machine.

    `gated` makes the layer of a gate and what it gates in one, by the activation's
    name; `head` the one whose outputs are logits. None: as any other.
    """

    activations: torch.dtype
    linear: LinearFactory
    is_rounded: bool = False  # to less than the activations' precision
    skips_zeros: bool = False  # of weights that were pruned
    widens: bool = False  # 16-bit weights under float32 activations
    gated: Callable[[Tensor, Tensor | None, str], nn.Module] | None = None
    head: LinearFactory | None = None

    def replace_in(self, model: PreTrainedModel) -> None:
        """Replace the model's layers, in place."""
        head = model.get_output_embeddings()
        if self.head is not None and type(head) is nn.Linear:
            weight, bias = _tensors(head)
            assert weight is not None
            model.set_output_embeddings(self.head(weight, bias))
        _replace(model, (nn.Linear, Conv1D), self.linear)
        if self.widens:
            _replace(model, (nn.Embedding,), WidenedEmbedding)
            model.float()  # what is left: norms and buffers


def choose_scheme(
    model: PreTrainedModel, quantize: str | None = None, may_use_kernels: bool = True
) -> LinearScheme | None:
    """The layers that this machine gains by; None where the model's own are as good.

    The model is on the CPU. Raises ModelLoadError where the machine does not have
    what `quantize` needs.
    """
    functions = kernels.load() if may_use_kernels else None
    if quantize is not None:
        return _quantized_scheme(functions, quantize)
    if functions is not None and not functions.has_products:
        functions = None
    if model.dtype == torch.float32 or not _is_available():
        return None
    native = model.dtype == torch.bfloat16 and _multiplies_bfloat16()
    dtype = torch.bfloat16 if native else torch.float32
    packed_bytes = _packed_bytes(model, dtype)
    if not _is_right(dtype) or packed_bytes > free_bytes(model.device) * _MEMORY_SHARE:
        return None
    if native:
        return product_scheme(functions) if functions else LinearScheme(dtype, PackedLinear)
    is_cached = packed_bytes <= _CACHE_BYTES
    return LinearScheme(dtype, partial(WidenedLinear, is_cached=is_cached), widens=True)


def _quantized_scheme(functions: Kernels | None, quantize: str) -> LinearScheme:
    if quantize == "fp8":
        raise ModelLoadError("quantize is fp8, which CPUs have no products for; use a GPU or int8.")
    if quantize == "int8":
        if functions is not None and functions.has_products:
            return product_scheme(functions, is_int8=True)
        raise ModelLoadError(
            "quantize is int8; it needs a CPU with AVX-512 BF16 and VNNI and the compiled "
            "kernels, and would gain nothing here."
        )
    if functions is None:
        raise ModelLoadError(
            f"quantize is {quantize}; on a CPU it needs the compiled kernels, which are "
            "switched off, not built or not for it."
        )
    if functions.has_products:
        _log.warning(
            "quantize is %s, which gains while one or two sequences run at once; for more, and "
            "for long prompts, this CPU is faster without it, and fastest with int8",
            quantize,
        )
    return weight_scheme(functions, bits=4 if quantize == "int4-weight" else 8)


def weight_scheme(functions: Kernels, *, bits: int) -> LinearScheme:
    """8 or 4-bit weights under activations that stay as they are; the head has 8 bits."""
    is_narrow = functions.has_narrow_weights
    dtype = torch.bfloat16 if is_narrow else torch.float32
    left_as_is: LinearFactory = PackedLinear if is_narrow else WidenedLinear

    def linear(
        weight: Tensor, bias: Tensor | None, bits: int = bits, out_dtype: torch.dtype = dtype
    ) -> nn.Module:
        if not WeightLinear.serves(weight):
            return left_as_is(weight, bias)
        return WeightLinear(
            functions, weight, bias, bits=bits, activations=dtype, out_dtype=out_dtype
        )

    def gated(weight: Tensor, bias: Tensor | None, activation: str) -> nn.Module:
        return WeightLinear(functions, weight, bias, bits=bits, gate=activation, activations=dtype)

    return LinearScheme(
        dtype,
        linear,
        is_rounded=True,
        widens=not is_narrow,
        gated=gated,
        head=partial(linear, bits=8, out_dtype=torch.float32),
    )


def product_scheme(functions: Kernels, *, is_int8: bool = False) -> LinearScheme:
    """The compiled products, in bfloat16 or on 8-bit weights and activations."""

    def linear(
        weight: Tensor, bias: Tensor | None, out_dtype: torch.dtype = torch.bfloat16
    ) -> nn.Module:
        if not ProductLinear.serves(weight):
            return PackedLinear(weight, bias)
        return ProductLinear(functions, weight, bias, is_int8=is_int8, out_dtype=out_dtype)

    def gated(weight: Tensor, bias: Tensor | None, activation: str) -> nn.Module:
        return ProductLinear(functions, weight, bias, is_int8=is_int8, gate=activation)

    return LinearScheme(
        torch.bfloat16,
        linear,
        is_rounded=is_int8,
        gated=gated,
        head=partial(linear, out_dtype=torch.float32),
    )


def _replace(model: nn.Module, kinds: tuple[type[nn.Module], ...], replacement: Any) -> None:
    """Replace the layers of exactly these kinds; a subclass may compute something else."""
    found = [(parent, name, layer) for parent in model.modules()
             for name, layer in parent.named_children() if type(layer) in kinds]  # fmt: skip
    for parent, name, layer in found:
        setattr(parent, name, replacement(*_tensors(layer)))


def _tensors(layer: Any) -> tuple[Tensor | None, ...]:
    """Weight (out, in) and bias of a linear layer; the table of an embedding."""
    weight: Tensor = layer.weight.detach()
    if isinstance(layer, nn.Embedding):
        return (weight,)
    bias = None if layer.bias is None else layer.bias.detach()
    return (weight.t().contiguous() if isinstance(layer, Conv1D) else weight, bias)


def _packed_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    layers: list[Any] = [m for m in model.modules() if type(m) in (nn.Linear, Conv1D)]
    return int(sum(layer.weight.numel() for layer in layers)) * dtype.itemsize


def _is_available() -> bool:
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def _multiplies_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_right(dtype: torch.dtype) -> bool:
    """Whether this build's packed product exists and agrees with the plain one."""
    x, weight = torch.ones(3, 64, dtype=dtype), torch.ones(32, 64, dtype=dtype)
    try:
        with torch.inference_mode():
            return torch.equal(_multiply(x, _pack(weight), None), x @ weight.t())
    except RuntimeError:
        return False


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS_HINT)
    return packed


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = _linear_pointwise(x, packed, bias, "none", [], "")
    return result
