"""The attention that transformers' models call, over the paged pool.

Registered with `AttentionInterface`, it receives one packed row with the tokens
of all sequences of the batch: q (1, heads, tokens, dim) after rotary, k and v
not repeated, no mask. What belongs to whom comes with the step in `paged_batch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface

from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.paged_batch import Chunk, DecodeGroup, PagedBatch

ATTENTION_NAME = "miao"
BATCH_ARGUMENT = "paged_batch"
_MAX_MASK_ELEMENTS = 1 << 22  # queries times keys; longer chunks go in slices


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """One layer's call, as the model made it."""

    module: nn.Module
    layer: int
    query: Tensor  # (heads, tokens, key_dim)
    key: Tensor  # (kv_heads, tokens, key_dim)
    value: Tensor  # (kv_heads, tokens, value_dim)
    scaling: float
    window: int | None
    softcap: float | None
    others: dict[str, Any]  # arguments that plain attention does not know


class AttentionBackend(Protocol):
    """Answers the calls of one forward pass."""

    def attend(self, call: AttentionCall) -> Tensor:
        """Returns (tokens, heads, value_dim)."""
        ...


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    paged_batch: AttentionBackend,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function behind `attn_implementation="miao"`."""
    call = AttentionCall(
        module=module,
        layer=int(module.layer_idx),  # type: ignore[arg-type]
        query=query[0],
        key=key[0],
        value=value[0],
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
        others={"attention_mask": attention_mask, **others},
    )
    return paged_batch.attend(call)[None], None


AttentionInterface.register(ATTENTION_NAME, attention_forward)


class PagedAttention:
    """Attends through the block tables of one step."""

    def __init__(self, pool: KVPool, batch: PagedBatch) -> None:
        self._pool = pool
        self._batch = batch

    def attend(self, call: AttentionCall) -> Tensor:
        """Store the batch's keys and values first: sequences may share blocks within a step."""
        index = self._batch.write_index(call.key.shape[0])
        self._pool.write(call.layer, index, call.key, call.value)
        parts = []
        if self._batch.num_decodes:
            parts.append(self._decode(call))
        parts.extend(self._prefill(call, chunk) for chunk in self._batch.chunks)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _decode(self, call: AttentionCall) -> Tensor:
        """One query for each sequence. Returns (decodes, heads, value_dim)."""
        query = call.query[:, : self._batch.num_decodes].transpose(0, 1)
        groups = self._batch.decode_groups(call.window, call.key.shape[0])
        if len(groups) == 1:
            return self._decode_group(call, query, groups[0])
        result = query.new_empty(*query.shape[:2], call.value.shape[-1])
        for group in groups:
            part = self._decode_group(call, query.index_select(0, group.rows), group)
            result.index_copy_(0, group.rows, part)
        return result

    def _decode_group(self, call: AttentionCall, query: Tensor, group: DecodeGroup) -> Tensor:
        """The query heads that share a kv head become rows of one small product.

        Shapes: query (rows, heads, dim); returns (rows, heads, value_dim).
        """
        rows, heads, dim = query.shape
        kv_heads = call.key.shape[0]
        keys, values = self._pool.gather(call.layer, group.block_index)
        result = _attend(
            query.reshape(rows, kv_heads, heads // kv_heads, dim),
            keys.view(rows, kv_heads, -1, dim),
            values.view(rows, kv_heads, -1, values.shape[-1]),
            call,
            mask=group.mask,
        )
        return result.reshape(rows, heads, -1)

    def _prefill(self, call: AttentionCall, chunk: Chunk) -> Tensor:
        """Several queries of one sequence. Returns (tokens, heads, value_dim)."""
        query = call.query[:, chunk.tokens]
        if chunk.start == 0 and not self._pool.is_rounded:  # what is rounded is read as such
            keys, values = call.key[:, chunk.tokens], call.value[:, chunk.tokens]
            first = 0
        else:
            keys, values, first = self._chunk_keys(call, chunk)
        keys, values = _repeat_heads(keys, query), _repeat_heads(values, query)
        if chunk.is_plainly_causal(call.window) and call.softcap is None:
            result = _attend(query[None], keys[None], values[None], call, is_causal=True)[0]
        else:
            result = _attend_in_slices(query, keys, values, call, chunk, first)
        return result.transpose(0, 1)

    def _chunk_keys(self, call: AttentionCall, chunk: Chunk) -> tuple[Tensor, Tensor, int]:
        """Keys and values (kv_heads, keys, dim) from the pool, and the first one's position."""
        kv_heads = call.key.shape[0]
        index, first = chunk.block_index(call.window, kv_heads)
        num_keys = chunk.end - first
        keys, values = self._pool.gather(call.layer, index)
        keys = keys.view(kv_heads, -1, keys.shape[-1])[:, :num_keys]
        return keys, values.view(kv_heads, -1, values.shape[-1])[:, :num_keys], first


def _attend_in_slices(
    query: Tensor, keys: Tensor, values: Tensor, call: AttentionCall, chunk: Chunk, first: int
) -> Tensor:
    """Attend with an explicit mask, never a large one. Returns (heads, tokens, value_dim)."""
    rows = max(1, _MAX_MASK_ELEMENTS // keys.shape[1])
    parts = []
    for begin in range(0, chunk.num_tokens, rows):
        part = query[:, begin : begin + rows]
        mask = chunk.mask(call.window, first, begin, part.shape[1], query.dtype)
        parts.append(_attend(part[None], keys[None], values[None], call, mask=mask)[0])
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    call: AttentionCall,
    mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """Softmax attention over equal numbers of heads, soft-capped where the model asks for it.

    Shapes: query (b, h, n, d), keys (b, h, m, d), values (b, h, m, e), mask
    additive and broadcast to (b, h, n, m); returns (b, h, n, e).
    """
    if call.softcap is None:
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=is_causal, scale=call.scaling
        )
    scores = torch.matmul(query, keys.transpose(-1, -2)) * call.scaling
    scores = torch.tanh(scores / call.softcap) * call.softcap
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, values)


def _repeat_heads(states: Tensor, query: Tensor) -> Tensor:
    """(kv_heads, m, d) to (heads, m, d): each kv head serves a run of query heads."""
    kv_heads, length, dim = states.shape
    group = query.shape[0] // kv_heads
    if group == 1:
        return states
    return states[:, None].expand(kv_heads, group, length, dim).reshape(-1, length, dim)
