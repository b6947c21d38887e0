"""The compiled kernels against the same in torch, at every level that this CPU runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from miao_worker.engine.cpu import kernels
from miao_worker.engine.cpu.kernels import LayerStruct, StepStruct

LEVELS = kernels.available()
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
pytestmark = pytest.mark.skipif(not LEVELS, reason="built without the compiled kernels")

level = pytest.mark.parametrize("functions", LEVELS, ids=lambda each: each.level)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@level
@dtypes
@pytest.mark.parametrize("rows", [1, 3, 400])
@pytest.mark.parametrize("is_normed", [False, True])
def test_add_and_norm(functions, dtype, rows, is_normed):
    torch.manual_seed(0)
    residual, delta = torch.randn(rows, 80), torch.randn(rows, 80).to(dtype)
    weight, delta_weight = torch.randn(80), torch.randn(80)
    added = F.rms_norm(delta.float(), (80,), delta_weight, 1e-6) if is_normed else delta.float()
    expected = residual + added
    out = torch.empty(rows, 80, dtype=dtype)
    functions.add_rms_norm(residual, delta, delta_weight if is_normed else None, weight, 1e-6, out)
    close(residual, expected, torch.float32)
    close(out, F.rms_norm(expected, (80,), weight, 1e-6), dtype)


@level
@dtypes
@pytest.mark.parametrize("name", ["silu", "gelu_pytorch_tanh"])
def test_gated_activation(functions, dtype, name):
    torch.manual_seed(0)
    gate_up = torch.randn(70, 2 * 300).mul(8).to(dtype)
    gate, up = gate_up.float().chunk(2, dim=-1)
    activated = F.silu(gate) if name == "silu" else F.gelu(gate, approximate="tanh")
    out = torch.empty(70, 300, dtype=dtype)
    functions.gated_activation(gate_up, kernels.ACTIVATIONS[name], out)
    torch.testing.assert_close(out.float(), activated * up, rtol=1e-2, atol=TOLERANCE[dtype])


@dataclass
class Shape:
    heads: int = 6
    kv_heads: int = 2
    dim: int = 64
    rotary_dim: int = 64
    block_size: int = 16
    window: int = 0
    softcap: float = 0.0
    is_normed: bool = False
    is_rounded: bool = False


@level
@dtypes
@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(heads=32, kv_heads=1, dim=16, rotary_dim=16),
        Shape(heads=4, kv_heads=4, dim=80, rotary_dim=32, window=50),
        Shape(dim=128, rotary_dim=128, softcap=5.0, block_size=32),
        Shape(dim=256, rotary_dim=256, is_normed=True, window=7, softcap=3.0),
        Shape(is_rounded=True),
        Shape(heads=4, kv_heads=4, dim=80, rotary_dim=32, window=50, is_rounded=True),
    ],
    ids=str,
)
def test_attention_in_chunks_then_token_by_token(functions, dtype, shape):
    """Sequences of different lengths, in pieces of 1 and more, blocks in no order."""
    lengths = (300, 77, 16, 1)
    memory = Memory(shape, dtype, lengths)
    width = (shape.heads + 2 * shape.kv_heads) * shape.dim
    inputs = [torch.randn(length, width).to(dtype) for length in lengths]
    found: list[list[torch.Tensor]] = [[] for _ in lengths]
    for pieces in memory.pieces(lengths):
        qkv = torch.cat([inputs[s][begin:end] for s, begin, end in pieces])
        outputs = memory.attend(functions, pieces, qkv)
        for (s, begin, end), rows in zip(
            pieces, outputs.split([e - b for _, b, e in pieces]), strict=True
        ):
            assert len(rows) == end - begin
            found[s].append(rows)
    for rows, qkv in zip(found, inputs, strict=True):
        close(torch.cat(rows), memory.reference(qkv), dtype)


class Memory:
    """A layer's pool, its rotary tables, and the same attention in plain torch."""

    def __init__(self, shape: Shape, dtype: torch.dtype, lengths: tuple[int, ...]) -> None:
        torch.manual_seed(1)
        self.shape, self.dtype = shape, dtype
        width = max(-(-length // shape.block_size) for length in lengths)
        num_blocks = len(lengths) * width
        shuffled = np.random.default_rng(0).permutation(num_blocks)
        self.tables = shuffled.reshape(len(lengths), width).astype(np.int64)
        size = num_blocks * shape.kv_heads * shape.block_size * shape.dim
        stored = torch.int8 if shape.is_rounded else dtype
        self.keys, self.values = torch.zeros(size, dtype=stored), torch.zeros(size, dtype=stored)
        self.scales = torch.zeros(2, size // shape.dim)
        angles = torch.arange(max(lengths))[:, None] / torch.logspace(0, 3, shape.rotary_dim // 2)
        self.cos, self.sin = angles.cos(), angles.sin()
        self.norms = torch.rand(2, shape.dim) + 0.5
        query_norm, key_norm = (n.data_ptr() if shape.is_normed else None for n in self.norms)
        self.layer = LayerStruct(
            dtype=kernels.dtype_code(dtype),
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            dim=shape.dim,
            rotary_dim=shape.rotary_dim,
            block_size=shape.block_size,
            window=shape.window,
            scale=shape.dim**-0.5,
            softcap=shape.softcap,
            norm_eps=1e-6,
            query_norm=query_norm,
            key_norm=key_norm,
            cos=self.cos.data_ptr(),
            sin=self.sin.data_ptr(),
            keys=self.keys.data_ptr(),
            values=self.values.data_ptr(),
            **dict(
                zip(
                    ("key_scales", "value_scales"),
                    (each.data_ptr() if shape.is_rounded else None for each in self.scales),
                    strict=True,
                )
            ),
        )

    @staticmethod
    def pieces(lengths):
        """Steps of (sequence, begin, end): half, nearly all, then one by one."""
        cuts = [sorted({0, n // 2, max(0, n - 2), max(0, n - 1), n}) for n in lengths]
        for i in range(max(len(cut) for cut in cuts) - 1):
            yield [(s, c[i], c[i + 1]) for s, c in enumerate(cuts) if i + 1 < len(c)]

    def attend(self, functions, pieces, qkv):
        shape = self.shape
        per_task = max(1, kernels.MAX_ROWS // (shape.heads // shape.kv_heads))
        positions = np.concatenate([np.arange(b, e) for _, b, e in pieces])
        counts = [e - b for _, b, e in pieces]
        rows = np.repeat([s for s, _, _ in pieces], counts)
        blocks = self.tables[rows, positions // shape.block_size]
        starts = np.cumsum([0, *counts])
        tables = np.ascontiguousarray(self.tables[[s for s, _, _ in pieces]])
        tasks = np.array(
            [
                (i, starts[i] + at, min(per_task, count - at))
                for i, count in enumerate(counts)
                for at in range(0, count, per_task)
            ]
        )
        arrays = (positions, blocks, starts, tables, tasks)
        step = StepStruct(
            len(positions),
            len(pieces),
            tables.shape[1],
            len(tasks),
            *(array.ctypes.data for array in arrays),
        )
        out = torch.empty(len(qkv), shape.heads * shape.dim, dtype=self.dtype)
        functions.attention(self.layer, step, qkv, torch.empty_like(out), out)
        return out

    def reference(self, qkv):
        shape, length = self.shape, len(qkv)
        parts = qkv.float().view(length, -1, shape.dim)
        query, key, value = parts.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        if shape.is_normed:
            query = F.rms_norm(query, (shape.dim,), self.norms[0], 1e-6)
            key = F.rms_norm(key, (shape.dim,), self.norms[1], 1e-6)
        group = shape.heads // shape.kv_heads
        query, key = self._rotated(query), self._rotated(key)
        if shape.is_rounded:
            key, value = rounded(key), rounded(value)
        key = key.repeat_interleave(group, 1)
        scores = torch.einsum("qhd,khd->hqk", query, key) * shape.dim**-0.5
        if shape.softcap:
            scores = torch.tanh(scores / shape.softcap) * shape.softcap
        distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        hidden = (distance < 0) | (distance >= (shape.window or math.inf))
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        value = value.repeat_interleave(group, 1)
        return torch.einsum("hqk,khd->qhd", weights, value).flatten(1)

    def _rotated(self, x):
        half = self.shape.rotary_dim // 2
        cos, sin = (t[: len(x), None] for t in (self.cos, self.sin))
        a, b = x[..., :half], x[..., half : 2 * half]
        rest = x[..., 2 * half :]
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


def rounded(x):
    """With 8 bits for each token and head."""
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale


def close(found, expected, dtype):
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)


def test_a_broken_file_is_passed_over(tmp_path: Path, monkeypatch, caplog):
    (tmp_path / "_kernels_generic.so").write_bytes(b"no library")
    monkeypatch.setattr(kernels, "_FOLDER", tmp_path)
    assert kernels.available() == ()
    assert "_kernels_generic.so" in caplog.text


@level
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 5000), (40, 9000)])
def test_row_maxima(functions, rows, n):
    torch.manual_seed(0)
    x = torch.randn(rows, n).mul(20).round()  # with equal values
    best, places = functions.row_maxima(x)
    assert torch.equal(best, x.amax(dim=1))
    assert places.tolist() == [row.index(max(row)) for row in x.tolist()]


@level
def test_row_maxima_tell_what_is_not_finite(functions):
    x = torch.zeros(4, 5000)
    x[0, 4999], x[1, 3], x[2] = math.nan, math.inf, -math.inf
    best, _ = functions.row_maxima(x)
    assert torch.isfinite(best).tolist() == [False, False, False, True]
