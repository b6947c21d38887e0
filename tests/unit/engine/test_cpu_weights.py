"""Products on 8 and 4-bit weights against float64's, at every level that this CPU runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from miao_worker.engine.cpu import kernels
from miao_worker.engine.cpu.products import quantize
from miao_worker.engine.cpu.weights import WeightLinear, quantize_groups

LEVELS = kernels.available()
KINDS = [
    pytest.param(functions, dtype, id=f"{functions.level}-{dtype}".replace("torch.", ""))
    for functions in LEVELS
    for dtype in (torch.float32, torch.bfloat16)
    if dtype == torch.float32 or functions.has_narrow_weights
]
pytestmark = pytest.mark.skipif(not LEVELS, reason="built without the compiled kernels")
kinds = pytest.mark.parametrize(("functions", "dtype"), KINDS)
bits = pytest.mark.parametrize("bits", [8, 4])


def make(out, in_, rows, dtype):
    torch.manual_seed(0)
    weight = (torch.randn(out, in_) / in_**0.5).bfloat16()
    return weight, torch.randn(out).to(dtype), torch.randn(rows, in_).to(dtype)


def rounded(weight, bits):
    """The weight that the product is to use, in float64."""
    if bits == 4:
        return quantize_groups(weight, LEVELS[0]).dequantize().double()
    values, scale = quantize(weight)
    return values.double() * scale.double()[:, None]


@kinds
@bits
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 12, 13, 31, 193, 400])
@pytest.mark.parametrize(("out", "in_"), [(64, 128), (100, 96), (7, 32)])
def test_a_product(functions, dtype, bits, rows, out, in_):
    weight, bias, x = make(out, in_, rows, dtype)
    layer = WeightLinear(
        functions, weight, bias, bits=bits, activations=dtype, out_dtype=torch.float32
    )
    expected = x.double() @ rounded(weight, bits).t() + bias.double()
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-4, atol=1e-4)


@kinds
@bits
@pytest.mark.parametrize("gate", ["silu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("out", [96, 2 * 37])
def test_a_gated_product(functions, dtype, bits, gate, out):
    weight, bias, x = make(out, 64, 13, dtype)
    layer = WeightLinear(functions, weight, bias, bits=bits, gate=gate, activations=dtype)
    opening, up = (x.double() @ rounded(weight, bits).t() + bias.double()).chunk(2, dim=1)
    act = F.silu(opening) if gate == "silu" else F.gelu(opening, approximate="tanh")
    tolerance = 1e-4 if dtype == torch.float32 else 1e-2
    found = layer(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), act * up, rtol=tolerance, atol=tolerance)


@kinds
@bits
def test_a_row_is_the_same_in_any_batch(functions, dtype, bits):
    weight, bias, x = make(100, 192, 200, dtype)
    layer = WeightLinear(functions, weight, bias, bits=bits, activations=dtype)
    together = layer(x)
    x[50] = torch.nan
    assert layer(x)[50].isnan().all()
    for row in (0, 7, 199):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


@kinds
def test_all_values_of_8_bits_come_through(functions, dtype):
    weight = torch.arange(-127, 128).repeat(4, 1).float()[:, :252] * 2
    weight[:, 0] = 254
    layer = WeightLinear(
        functions, weight, None, bits=8, activations=dtype, out_dtype=torch.float32
    )
    one_by_one = layer(torch.eye(252).to(dtype))
    assert torch.equal(one_by_one, weight.t())


def test_4_bits_without_a_group_become_8():
    assert (
        WeightLinear(LEVELS[0], torch.randn(8, 36), None, bits=4, activations=torch.float32).bits
        == 8
    )
    with pytest.raises(ValueError, match="36 inputs"):
        quantize_groups(torch.randn(8, 36))


@pytest.mark.parametrize("functions", [None, *LEVELS], ids=lambda f: f.level if f else "torch")
def test_rounding_to_4_bits_keeps_within_half_a_step(functions):
    torch.manual_seed(0)
    weight = torch.rand(6, 128) + 3
    grouped = quantize_groups(weight, functions)
    error = (grouped.dequantize() - weight).abs().view(6, -1, grouped.group)
    assert (error.square().mean(-1) <= (grouped.scales.float() / 2).square() + 1e-4).all()
    zeros = quantize_groups(torch.zeros(2, 64), functions).dequantize()
    assert torch.equal(zeros, torch.zeros(2, 64))


@pytest.mark.parametrize("functions", LEVELS, ids=lambda f: f.level)
def test_the_kernels_round_to_4_bits_as_torch_does(functions):
    torch.manual_seed(0)
    weight = torch.randn(64, 192).bfloat16()
    found, expected = (quantize_groups(weight, f) for f in (functions, None))
    # A tie of two ranges may go either way.
    assert (found.codes == expected.codes).float().mean() > 0.95
    errors = [(g.dequantize() - weight.float()).norm() for g in (found, expected)]
    torch.testing.assert_close(errors[0], errors[1], rtol=1e-3, atol=0)


@kinds
@bits
@pytest.mark.parametrize("rows", [0, 1, 13])
def test_what_comes_before_a_gate(functions, dtype, bits, rows):
    weight, bias, x = make(2 * 37, 64, rows, dtype)
    layer = WeightLinear(functions, weight, bias, bits=bits, activations=dtype, gate="silu")
    plain = WeightLinear(
        functions, weight, bias, bits=bits, activations=dtype, out_dtype=torch.float32
    )
    torch.testing.assert_close(layer.before_gate(x), plain(x))
