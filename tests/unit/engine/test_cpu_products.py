"""The compiled products against torch's, at every number of rows that has code of its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from miao_worker.engine.cpu import kernels
from miao_worker.engine.cpu.products import ProductLinear, quantize

LEVELS = [each for each in kernels.available() if each.has_products]
pytestmark = pytest.mark.skipif(
    not LEVELS, reason="needs the compiled products and a CPU that runs them"
)
level = pytest.mark.parametrize("functions", LEVELS, ids=lambda each: each.level)
ROWS = [0, 1, 2, 5, 11, 12, 13, 31, 64, 193, 400]


def make(out, in_, rows):
    torch.manual_seed(0)
    weight = (torch.randn(out, in_) / in_**0.5).bfloat16()
    return weight, torch.randn(out).bfloat16(), torch.randn(rows, in_).bfloat16()


def emulated(x, weight, is_int8):
    """The product of what it is given, in float64."""
    if not is_int8:
        return x.double() @ weight.double().t()
    rounded, scale = quantize(weight)
    row_scale = x.float().abs().amax(dim=1, keepdim=True) / 127
    rounded_x = (x.float() / row_scale.clamp_min(1e-30)).round()
    return (rounded_x.double() @ rounded.double().t()) * row_scale * scale


@level
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("out", "in_"), [(64, 128), (100, 36), (7, 4), (40, 2112)])
@pytest.mark.parametrize("is_int8", [False, True], ids=["bfloat16", "int8"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_product(functions, rows, out, in_, is_int8, has_bias):
    weight, bias, x = make(out, in_, rows)
    layer = ProductLinear(
        functions,
        weight,
        bias if has_bias else None,
        is_int8=is_int8,
        out_dtype=torch.float32,
    )
    expected = emulated(x, weight, is_int8) + (bias.double() if has_bias else 0)
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-3, atol=2e-2 * is_int8 + 1e-4)


@level
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("gate", ["silu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("out", [96, 2 * 37])
@pytest.mark.parametrize("is_int8", [False, True], ids=["bfloat16", "int8"])
def test_a_gated_product(functions, rows, gate, out, is_int8):
    weight, bias, x = make(out, 64, rows)
    layer = ProductLinear(functions, weight, bias, is_int8=is_int8, gate=gate)
    opening, up = (emulated(x, weight, is_int8) + bias.double()).chunk(2, dim=1)
    act = F.silu(opening) if gate == "silu" else F.gelu(opening, approximate="tanh")
    found = layer(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), act * up, rtol=1e-2, atol=2e-2 + 3e-2 * is_int8)


@level
def test_leading_dimensions_are_kept(functions):
    weight, _, x = make(32, 16, 6)
    layer = ProductLinear(functions, weight, None)
    assert torch.equal(layer(x.view(2, 3, 16)).flatten(0, 1), layer(x))


@level
@pytest.mark.parametrize("is_int8", [False, True], ids=["bfloat16", "int8"])
def test_a_row_is_the_same_alone_and_among_others(functions, is_int8):
    weight, bias, x = make(96, 2112, 300)
    layer = ProductLinear(functions, weight, bias, is_int8=is_int8, out_dtype=torch.float32)
    together = layer(x)
    for rows in (slice(0, 1), slice(7, 9), slice(40, 60), slice(250, 300), slice(0, 70)):
        assert torch.equal(layer(x[rows]), together[rows])


@level
def test_rows_of_nothing_or_of_no_number_keep_to_themselves(functions):
    weight, _, x = make(32, 16, 3)
    layer = ProductLinear(functions, weight, None, is_int8=True, out_dtype=torch.float32)
    alone = layer(x[:1])
    x[1] = 0
    x[2, 5] = torch.nan
    found = layer(x)
    assert torch.equal(found[:1], alone)
    assert torch.equal(found[1], torch.zeros(32))
    assert found[2].isnan().all()


def test_quantizing_rounds_to_the_nearest_of_255():
    weight = torch.tensor([[1.27, -0.01, 0.006], [0.0, 0.0, 0.0]])
    values, scale = quantize(weight)
    assert values.tolist() == [[127, -1, 1], [0, 0, 0]]
    torch.testing.assert_close(scale, torch.tensor([0.01, 0.0]))


@level
@pytest.mark.parametrize("rows", [0, 1, 13])
@pytest.mark.parametrize("is_int8", [False, True], ids=["bfloat16", "int8"])
def test_what_comes_before_a_gate(functions, rows, is_int8):
    weight, bias, x = make(2 * 37, 64, rows)
    layer = ProductLinear(functions, weight, bias, is_int8=is_int8, gate="silu")
    plain = ProductLinear(functions, weight, bias, is_int8=is_int8, out_dtype=torch.float32)
    torch.testing.assert_close(layer.before_gate(x), plain(x))
