"""Packed layers compute what the layers they replace computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from miao_worker.engine.cpu.linears import PackedLinear, WidenedEmbedding, WidenedLinear


@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_equals_the_plain_one(rows, bias):
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias)
    packed = PackedLinear(layer.weight.detach(), layer.bias.detach() if bias else None)
    x = torch.randn(1, rows, 48)
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), layer(x))


@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_cached", [True, False])
def test_a_widened_layer_computes_in_float32(rows, dtype, is_cached):
    torch.manual_seed(0)
    layer = nn.Linear(48, 80).to(dtype)
    widened = WidenedLinear(layer.weight.detach(), layer.bias.detach(), is_cached=is_cached)
    x = torch.randn(1, rows, 48)
    with torch.inference_mode():
        result = widened(x)
        exact = layer.float()(x)
    assert result.dtype == torch.float32
    tolerance = 0.02 if rows == 1 and not is_cached else 1e-5  # a row in 16 bits
    torch.testing.assert_close(result, exact, rtol=tolerance, atol=tolerance)


def test_a_widened_embedding_reads_float32():
    table = torch.randn(10, 4).bfloat16()
    embedding = WidenedEmbedding(table)
    rows = embedding(torch.tensor([[3, 9]]))
    torch.testing.assert_close(rows, table[[3, 9]].float()[None])
    assert embedding.num_embeddings == 10
