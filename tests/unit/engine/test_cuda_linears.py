"""The layers of rounded weights for GPUs: their arithmetic on the CPU, and their refusals."""

from __future__ import annotations

import pytest
import torch

from miao_worker.engine import cuda_linears
from miao_worker.engine.cpu.products import quantize
from miao_worker.engine.cpu.weights import quantize_groups
from miao_worker.engine.errors import ModelLoadError

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def expected(scheme, weight, x):
    if scheme == "int4-weight":
        return x.double() @ quantize_groups(weight).dequantize().double().t()
    if scheme == "fp8":
        (w, w_scale), (r, r_scale) = cuda_linears._to_fp8(weight), cuda_linears._to_fp8(x)
        return (r.double() * r_scale) @ (w.double() * w_scale).t()
    values, scale = quantize(weight)
    rounded = values.double() * scale[:, None]
    if scheme == "int8":
        values, scale = quantize(x)
        x = values.double() * scale[:, None]
    return x.double() @ rounded.t()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scheme", ["int8", "int8-weight", "int4-weight", "fp8"])
@pytest.mark.parametrize("rows", [0, 1, 5, 40])
def test_a_layer(device, scheme, rows):
    torch.manual_seed(0)
    weight = (torch.randn(64, 128, device=device) / 128**0.5).bfloat16()
    bias, x = torch.randn(64, device=device).bfloat16(), torch.randn(rows, 128, device=device)
    layer = cuda_linears._FACTORIES[scheme](weight, bias)
    assert isinstance(layer, cuda_linears.RoundedLinear)
    found = layer(x.bfloat16()[None])[0]
    assert found.dtype == torch.bfloat16
    exact = expected(scheme, weight, x.bfloat16()) + bias.double()
    torch.testing.assert_close(found.double(), exact, rtol=2e-2, atol=4e-2)


@pytest.mark.parametrize("scheme", ["int8", "int8-weight", "int4-weight", "fp8"])
def test_a_weight_of_another_shape_stays_as_it_is(scheme):
    weight, x = torch.randn(7, 36).bfloat16(), torch.randn(3, 36).bfloat16()
    layer = cuda_linears._FACTORIES[scheme](weight, None)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, weight))


def test_what_a_gpu_does_not_have_is_refused_in_one_sentence():
    with pytest.raises(ModelLoadError, match=r"fp8, which needs .* 9\.0; this one has 8\.6\.$"):
        cuda_linears._check((8, 6), "fp8")
    cuda_linears._check((9, 0), "fp8")
    cuda_linears._check((8, 0), "int4-weight")
