"""The Triton kernels against plain attention in float32; without a GPU in Triton's interpreter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from miao_worker.engine.attention import AttentionCall
from miao_worker.engine.cuda import attention as cuda_attention
from miao_worker.engine.cuda.attention import TritonAttention, num_splits
from miao_worker.engine.cuda.step import kernel_step
from miao_worker.engine.kv_pool import KVPool, LayerShape
from miao_worker.engine.paged_batch import Chunk, PagedBatch

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NUM_BLOCKS = 40
# What the interpreter makes of tl.trans and of masked rows of infinities.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")


@dataclass
class Case:
    """Lengths of decodes, (start, end) of chunks, and the model's attention."""

    decodes: tuple[int, ...] = ()
    chunks: tuple[tuple[int, int], ...] = ()
    heads: int = 4
    kv_heads: int = 2
    dim: int = 64
    value_dim: int | None = None
    block_size: int = 16
    window: int | None = None
    softcap: float | None = None
    dtype: torch.dtype = torch.float32
    transposed: bool = True  # as transformers lays queries out


CASES = {
    "decodes of ragged lengths": Case(decodes=(1, 16, 17, 90, 131)),
    "chunks, whole and from the middle": Case(chunks=((0, 70), (33, 40), (64, 65), (0, 1))),
    "mixed": Case(decodes=(30, 3), chunks=((0, 20), (16, 90))),
    "window": Case(decodes=(5, 40, 100), chunks=((0, 80), (50, 75)), window=13),
    "a window longer than all": Case(decodes=(5, 40), chunks=((0, 9),), window=500),
    "softcap": Case(decodes=(20, 45), chunks=((10, 30),), softcap=3.0),
    "softcap and window": Case(decodes=(20, 45), chunks=((0, 30),), softcap=3.0, window=9),
    "one head": Case(decodes=(20,), chunks=((0, 5),), heads=1, kv_heads=1),
    "every head its own": Case(decodes=(20, 7), chunks=((0, 5),), heads=3, kv_heads=3),
    "seven to one": Case(decodes=(20, 7), chunks=((0, 5),), heads=7, kv_heads=1),
    "twenty to one": Case(decodes=(20, 7), chunks=((0, 5),), heads=20, kv_heads=1),
    "dim 96": Case(decodes=(20, 7), chunks=((0, 35),), dim=96),
    "dim 256": Case(decodes=(20, 37), chunks=((0, 35),), dim=256),
    "dims that differ": Case(decodes=(20, 7), chunks=((0, 35),), dim=24, value_dim=48),
    "small blocks": Case(decodes=(20, 7), chunks=((3, 25),), block_size=4),
    "contiguous heads": Case(decodes=(20, 7), chunks=((3, 25),), transposed=False),
    "float16": Case(decodes=(20, 70), chunks=((3, 25),), dtype=torch.float16),
    "bfloat16": Case(decodes=(20, 70), chunks=((3, 25),), dtype=torch.bfloat16),
}


class Scene:
    """A pool with what came before, and a step's queries, keys and values."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case = case
        self.value_dim = case.value_dim or case.dim
        spans = [(n - 1, n) for n in case.decodes] + list(case.chunks)
        self.spans = spans
        free = iter(torch.randperm(NUM_BLOCKS * 16 // case.block_size).tolist())
        count = [-(-end // case.block_size) for _, end in spans]
        self.tables = [np.array([next(free) for _ in range(n)]) for n in count]
        self.num_tokens = sum(end - start for start, end in spans)
        self.keys = [self._random(case.kv_heads, end, case.dim) for _, end in spans]
        self.values = [self._random(case.kv_heads, end, self.value_dim) for _, end in spans]
        self.query = self._random(case.heads, self.num_tokens, case.dim)
        shape = LayerShape(case.kv_heads, case.dim, self.value_dim)
        num_blocks = NUM_BLOCKS * 16 // case.block_size
        self.pool = KVPool({0: shape}, num_blocks, case.block_size, case.dtype, DEVICE)
        for tensor in self.pool.tensors(0):
            tensor.fill_(float("nan"))  # what nobody has written must not be read
        self._fill_pool()

    def _random(self, heads: int, tokens: int, dim: int) -> torch.Tensor:
        return torch.randn(heads, tokens, dim).to(self.case.dtype)

    def _fill_pool(self) -> None:
        size, heads = self.case.block_size, self.case.kv_heads
        pool_keys, pool_values = self.pool.tensors(0)
        for (start, _), table, keys, values in zip(
            self.spans, self.tables, self.keys, self.values, strict=True
        ):
            for position in range(start):
                lines = table[position // size] * heads + np.arange(heads)
                pool_keys[lines, position % size] = keys[:, position].to(DEVICE)
                pool_values[lines, position % size] = values[:, position].to(DEVICE)

    def _new(self, of: list[torch.Tensor]) -> torch.Tensor:
        parts = [x[:, start:] for (start, _), x in zip(self.spans, of, strict=True)]
        return self._as_models_do(torch.cat(parts, dim=1))

    def _as_models_do(self, states: torch.Tensor) -> torch.Tensor:
        if self.case.transposed:
            states = states.transpose(0, 1).contiguous().transpose(0, 1)
        return states.to(DEVICE)

    def call(self) -> AttentionCall:
        case = self.case
        return AttentionCall(
            module=torch.nn.Identity(),
            layer=0,
            query=self._as_models_do(self.query),
            key=self._new(self.keys),
            value=self._new(self.values),
            scaling=case.dim**-0.5,
            window=case.window,
            softcap=case.softcap,
            others={},
        )

    def paged_batch(self) -> PagedBatch:
        case, num_decodes = self.case, len(self.case.decodes)
        width = max((len(t) for t in self.tables[:num_decodes]), default=0)
        lines = [np.pad(t, (0, width - len(t))) for t in self.tables[:num_decodes]]
        chunks, offset = [], num_decodes
        for (start, end), table in zip(case.chunks, self.tables[num_decodes:], strict=True):
            chunks.append(Chunk(offset, start, end, table, case.block_size, DEVICE))
            offset += end - start
        positions = [np.arange(start, end) for start, end in self.spans]
        blocks = [t[p // case.block_size] for t, p in zip(self.tables, positions, strict=True)]
        return PagedBatch(
            positions=np.concatenate(positions),
            blocks=np.concatenate(blocks),
            tables=np.array(lines, dtype=np.int64).reshape(num_decodes, width),
            lengths=np.array(case.decodes, dtype=np.int64),
            chunks=chunks,
            block_size=case.block_size,
            dtype=case.dtype,
            device=DEVICE,
        )

    def expected(self) -> torch.Tensor:
        """(tokens, heads, value_dim) in float32."""
        parts, token = [], 0
        for (start, end), keys, values in zip(self.spans, self.keys, self.values, strict=True):
            query = self.query[:, token : token + end - start].float()
            token += end - start
            parts.append(self._attend(query, keys.float(), values.float(), start, end))
        return torch.cat(parts, dim=1).transpose(0, 1)

    def _attend(self, query, keys, values, start, end):
        case, group = self.case, self.case.heads // self.case.kv_heads
        keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
        scores = query @ keys.transpose(1, 2) * case.dim**-0.5
        if case.softcap is not None:
            scores = case.softcap * torch.tanh(scores / case.softcap)
        distance = torch.arange(start, end)[:, None] - torch.arange(end)[None, :]
        hidden = (distance < 0) | (distance >= (case.window or end))
        return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ values


@pytest.fixture(params=[1, 4], ids=["one part", "four parts"])
def splits(request, monkeypatch):
    monkeypatch.setattr(cuda_attention, "num_splits", lambda _: request.param)
    return request.param


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_output_is_that_of_plain_attention(case, splits):
    if case.dtype == torch.bfloat16 and DEVICE.type == "cpu":
        pytest.skip("the interpreter multiplies the bits of bfloat16 numbers")
    if splits > 1 and not case.decodes:
        pytest.skip("only decodes are split")
    scene = Scene(case)
    found = TritonAttention(scene.pool, kernel_step(scene.paged_batch())).attend(scene.call())
    tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[case.dtype]
    torch.testing.assert_close(
        found.float().cpu(), scene.expected(), atol=tolerance, rtol=tolerance
    )


def test_a_row_of_padding_writes_nothing_and_attends_to_nothing(splits):
    scene = Scene(Case(decodes=(20, 7)))
    batch = scene.paged_batch()
    batch.lengths[1] = 0
    batch.blocks[1], batch.positions[1] = NUM_BLOCKS, 0
    before = [tensor.clone() for tensor in scene.pool.tensors(0)]
    found = TritonAttention(scene.pool, kernel_step(batch)).attend(scene.call())
    torch.testing.assert_close(found[0].cpu(), scene.expected()[0], atol=1e-5, rtol=1e-5)
    assert not found[1].any()
    written = [
        (now != then).logical_and(~(now.isnan() & then.isnan())).any(-1).sum().item()
        for now, then in zip(scene.pool.tensors(0), before, strict=True)
    ]
    assert written == [2, 2]  # the first row's token in two kv heads


def test_keys_are_split_where_rows_are_few():
    assert [num_splits(n) for n in (8, 64, 132, 264, 2048)] == [32, 8, 2, 1, 1]
