"""Attention over the paged pool as Triton kernels: store, decode, merge, prefill.

Importing this needs Triton. With TRITON_INTERPRET=1 the kernels run on a CPU, slowly.

Softmax is accumulated online (Dao et al., "FlashAttention", 2022); a decode is
split over its keys and merged (Dao et al., "Flash-Decoding", 2023). Keys and
values lie as the pool has them: (block, kv head, offset, dimension). Query heads
that share a kv head are the rows of one product, so its keys are read once.
"""

# ruff: noqa: N803 (constants of a kernel are written as Triton's users do)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def store(
    key,
    value,
    keys,
    values,
    slots,  # (tokens,) block * BLOCK_SIZE + offset; from `num_slots` on: not stored
    num_slots,
    key_head_stride,
    key_token_stride,
    value_head_stride,
    value_token_stride,
    KV_HEADS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    KEY_PAD: tl.constexpr,
    VALUE_PAD: tl.constexpr,
):
    """Write one token's key and value of one kv head. Grid: (tokens, KV_HEADS)."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    slot = tl.load(slots + token).to(tl.int64)
    if slot < num_slots:
        line = (slot // BLOCK_SIZE * KV_HEADS + head) * BLOCK_SIZE + slot % BLOCK_SIZE
        d = tl.arange(0, KEY_PAD)
        new = tl.load(
            key + head * key_head_stride + token * key_token_stride + d, mask=d < KEY_DIM, other=0.0
        )
        tl.store(keys + line * KEY_DIM + d, new.to(keys.dtype.element_ty), mask=d < KEY_DIM)
        e = tl.arange(0, VALUE_PAD)
        new = tl.load(
            value + head * value_head_stride + token * value_token_stride + e,
            mask=e < VALUE_DIM,
            other=0.0,
        )
        tl.store(values + line * VALUE_DIM + e, new.to(values.dtype.element_ty), mask=e < VALUE_DIM)


@triton.jit
def _scores(query, key, scale, softcap, HAS_SOFTCAP: tl.constexpr, PRECISION: tl.constexpr):
    """Query (m, d), key (n, d): scaled and capped scores (m, n) in float32."""
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
    if HAS_SOFTCAP:
        scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)  # softcap * tanh
    return scores


@triton.jit
def decode(
    query,
    keys,
    values,
    out,
    partial,  # (rows, heads, SPLITS, VALUE_DIM) float32; unused with one split
    log_sums,  # (rows, heads, SPLITS) float32; unused with one split
    lengths,  # (rows,) tokens with the one computed; 0: a row of padding
    tables,  # (rows, width) blocks
    table_width,  # (1,) in memory, so that a captured graph takes any
    scale,
    softcap,
    query_head_stride,
    query_token_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,  # query heads of a kv head
    GROUP_PAD: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    KEY_PAD: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    WINDOW: tl.constexpr,  # 0: none
    HAS_SOFTCAP: tl.constexpr,
    SPLITS: tl.constexpr,
    TILE: tl.constexpr,  # keys at a time
    PRECISION: tl.constexpr,
):
    """One row's queries of one kv head over one share of its keys.

    Grid: (rows, KV_HEADS, SPLITS). Writes `out` (rows, heads, VALUE_DIM), or its share of it.
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths + row)
    width = tl.load(table_width)
    first = 0
    if WINDOW > 0:
        first = tl.maximum(length - WINDOW, 0)
    share = tl.cdiv(tl.cdiv(length - first, SPLITS), TILE) * TILE
    begin = first + split * share
    end = tl.minimum(begin + share, length)
    g = tl.arange(0, GROUP_PAD)
    d = tl.arange(0, KEY_PAD)
    e = tl.arange(0, VALUE_PAD)
    heads = head * GROUP + g
    q = tl.load(
        query + heads[:, None] * query_head_stride + row * query_token_stride + d[None, :],
        mask=(g < GROUP)[:, None] & (d < KEY_DIM)[None, :],
        other=0.0,
    )
    largest = tl.full([GROUP_PAD], float("-inf"), tl.float32)
    total = tl.zeros([GROUP_PAD], tl.float32)
    result = tl.zeros([GROUP_PAD, VALUE_PAD], tl.float32)
    for start in range(begin, end, TILE):
        n = start + tl.arange(0, TILE)
        valid = n < end
        block = tl.load(tables + row * width + n // BLOCK_SIZE, mask=valid, other=0).to(tl.int64)
        line = (block * KV_HEADS + head) * BLOCK_SIZE + n % BLOCK_SIZE
        k = tl.load(
            keys + line[:, None] * KEY_DIM + d[None, :],
            mask=valid[:, None] & (d < KEY_DIM)[None, :],
            other=0.0,
        )
        v = tl.load(
            values + line[:, None] * VALUE_DIM + e[None, :],
            mask=valid[:, None] & (e < VALUE_DIM)[None, :],
            other=0.0,
        )
        scores = _scores(q, k, scale, softcap, HAS_SOFTCAP, PRECISION)
        scores = tl.where(valid[None, :], scores, float("-inf"))
        peak = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp(scores - peak[:, None])
        fade = tl.exp(largest - peak)
        total = total * fade + tl.sum(weights, 1)
        result = result * fade[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        largest = peak
    result = result / tl.where(total > 0, total, 1.0)[:, None]
    line = row * (KV_HEADS * GROUP) + heads
    inside = (g < GROUP)[:, None] & (e < VALUE_DIM)[None, :]
    if SPLITS == 1:
        target = out + line[:, None] * VALUE_DIM + e[None, :]
        tl.store(target, result.to(out.dtype.element_ty), mask=inside)
    else:
        place = line * SPLITS + split
        tl.store(partial + place[:, None] * VALUE_DIM + e[None, :], result, mask=inside)
        sums = tl.where(total > 0, largest + tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))
        tl.store(log_sums + place, sums, mask=g < GROUP)


@triton.jit
def merge(
    partial,
    log_sums,
    out,
    VALUE_DIM: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    SPLITS: tl.constexpr,  # a power of two
):
    """Put the shares of one row and head together. Grid: (rows * heads,)."""
    line = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, SPLITS)
    e = tl.arange(0, VALUE_PAD)
    sums = tl.load(log_sums + line * SPLITS + s)
    peak = tl.max(sums, 0)
    weights = tl.exp(sums - tl.where(peak == float("-inf"), 0.0, peak))
    shares = tl.load(
        partial + (line * SPLITS + s)[:, None] * VALUE_DIM + e[None, :],
        mask=(e < VALUE_DIM)[None, :],
        other=0.0,
    )
    total = tl.sum(weights, 0)
    result = tl.sum(shares * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(out + line * VALUE_DIM + e, result.to(out.dtype.element_ty), mask=e < VALUE_DIM)


@triton.jit
def prefill(
    query,
    keys,
    values,
    out,
    tiles,  # (tiles, 4): line of the tables, first token in the row, its position, tokens
    tables,  # (chunks, width) blocks
    width,
    scale,
    softcap,
    query_head_stride,
    query_token_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    KEY_PAD: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    QUERIES: tl.constexpr,  # of a tile
    TILE: tl.constexpr,  # keys at a time
    PRECISION: tl.constexpr,
):
    """Some queries of one sequence and one head over the keys up to theirs. Grid: (tiles, heads).

    Writes `out` (tokens, heads, VALUE_DIM).
    """
    tile = tl.program_id(0)
    head = tl.program_id(1)
    kv_head = head // GROUP
    table = tl.load(tiles + tile * 4).to(tl.int64)
    token = tl.load(tiles + tile * 4 + 1).to(tl.int64)
    position = tl.load(tiles + tile * 4 + 2)
    count = tl.load(tiles + tile * 4 + 3)
    m = tl.arange(0, QUERIES)
    d = tl.arange(0, KEY_PAD)
    e = tl.arange(0, VALUE_PAD)
    q = tl.load(
        query + head * query_head_stride + (token + m)[:, None] * query_token_stride + d[None, :],
        mask=(m < count)[:, None] & (d < KEY_DIM)[None, :],
        other=0.0,
    )
    begin = 0
    if WINDOW > 0:
        begin = tl.maximum(position - WINDOW + 1, 0) // TILE * TILE
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    result = tl.zeros([QUERIES, VALUE_PAD], tl.float32)
    for start in range(begin, position + count, TILE):
        n = start + tl.arange(0, TILE)
        valid = n < position + count
        block = tl.load(tables + table * width + n // BLOCK_SIZE, mask=valid, other=0).to(tl.int64)
        line = (block * KV_HEADS + kv_head) * BLOCK_SIZE + n % BLOCK_SIZE
        k = tl.load(
            keys + line[:, None] * KEY_DIM + d[None, :],
            mask=valid[:, None] & (d < KEY_DIM)[None, :],
            other=0.0,
        )
        v = tl.load(
            values + line[:, None] * VALUE_DIM + e[None, :],
            mask=valid[:, None] & (e < VALUE_DIM)[None, :],
            other=0.0,
        )
        scores = _scores(q, k, scale, softcap, HAS_SOFTCAP, PRECISION)
        seen = n[None, :] <= (position + m)[:, None]
        if WINDOW > 0:
            seen = seen & (n[None, :] > (position + m)[:, None] - WINDOW)
        scores = tl.where(seen, scores, float("-inf"))
        peak = tl.maximum(largest, tl.max(scores, 1))
        reference = tl.where(peak == float("-inf"), 0.0, peak)  # no key of the tile is seen
        weights = tl.exp(scores - reference[:, None])
        fade = tl.exp(largest - reference)
        total = total * fade + tl.sum(weights, 1)
        result = result * fade[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        largest = peak
    result = result / tl.where(total > 0, total, 1.0)[:, None]
    line = (token + m) * (KV_HEADS * GROUP) + head
    tl.store(
        out + line[:, None] * VALUE_DIM + e[None, :],
        result.to(out.dtype.element_ty),
        mask=(m < count)[:, None] & (e < VALUE_DIM)[None, :],
    )
