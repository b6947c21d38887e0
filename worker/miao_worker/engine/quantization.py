"""Which linear layers a model gets on its device."""

from __future__ import annotations

from transformers import PreTrainedModel

from miao_worker.engine import cuda_linears
from miao_worker.engine.config import Quantization
from miao_worker.engine.cpu import linears
from miao_worker.engine.cpu.linears import LinearScheme


def choose_scheme(
    model: PreTrainedModel,
    quantize: Quantization | None,
    cpu_kernels: bool = True,
    prune: str | None = None,
) -> LinearScheme | None:
    """The layers to put in place of the model's; None where its own are as good.

    `cpu_kernels`: whether the compiled ones may be used.
    Raises ModelLoadError where the device does not have what `quantize` needs.
    """
    if model.device.type == "cpu":
        return linears.choose_scheme(model, quantize, cpu_kernels)
    if quantize is not None:
        return cuda_linears.scheme(model.device, quantize)
    if prune == "2:4" and cuda_linears.skips_zeros(model.device, model.dtype):
        return cuda_linears.sparse_scheme(model.dtype)
    return None
