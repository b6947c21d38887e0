"""Runs a transformers model over packed batches, its keys and values in a paged pool."""

from __future__ import annotations

from collections.abc import Sequence as Items

import torch
from torch import Tensor
from transformers import PreTrainedModel

from miao_worker.engine.attention import BATCH_ARGUMENT, PagedAttention
from miao_worker.engine.batch import Batch
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.linears import prepare_for_cpu
from miao_worker.engine.loader import load_model, resolve_device
from miao_worker.engine.memory import pool_blocks
from miao_worker.engine.model_probe import ModelFacts, probe
from miao_worker.engine.packing import BlockTables, Packer

_AT_LEAST_ONE = (
    "block_size",
    "max_sequences",
    "max_batch_tokens",
    "max_model_length",
    "num_threads",
)


def load_runner(config: EngineConfig) -> TransformersRunner:
    """Load the model, see that it can be served, and make its pool."""
    _check_settings(config)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = resolve_device(config.device)
    model = load_model(config, device)
    prepare_for_cpu(model)
    facts = probe(model, config.model)
    length = _max_model_length(config, facts)
    num_blocks = pool_blocks(config, facts.layers, facts.dtype, device, length)
    pool = KVPool(facts.layers, num_blocks, config.block_size, facts.dtype, device)
    length = _fit_length(config, length, num_blocks * config.block_size)
    return TransformersRunner(model, facts, pool, length, config.max_sequences)


def _check_settings(config: EngineConfig) -> None:
    for name in (
        "block_size",
        "max_sequences",
        "max_batch_tokens",
        "max_model_length",
        "num_threads",
    ):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ModelLoadError(f"{name} is {value}; it must be at least 1.")


def _max_model_length(config: EngineConfig, facts: ModelFacts) -> int:
    known, wanted = facts.context_length, config.max_model_length
    if known is None and wanted is None:
        raise ModelLoadError(f"{config.model} names no context length; set max_model_length.")
    if known is not None and wanted is not None and wanted > known:
        raise ModelLoadError(
            f"{config.model} knows {known} positions; set max_model_length to at most that."
        )
    length = wanted or known
    assert length is not None
    return length


def _fit_length(config: EngineConfig, length: int, capacity: int) -> int:
    """A sequence of the greatest length must fit the pool alone, so that none can hang."""
    if length <= capacity:
        return length
    if config.max_model_length is not None:
        raise ModelLoadError(
            f"The KV pool holds {capacity} tokens, fewer than max_model_length {length}; "
            "raise cache_bytes or lower max_model_length."
        )
    return capacity


class TransformersRunner:
    """The engine's `ModelRunner` on the model classes of transformers."""

    def __init__(
        self,
        model: PreTrainedModel,
        facts: ModelFacts,
        pool: KVPool,
        max_model_length: int,
        max_sequences: int,
    ) -> None:
        self._model = model
        self._takes_logits_to_keep = facts.takes_logits_to_keep
        self._pool = pool
        self.max_model_length = max_model_length
        self.vocab_size = facts.vocab_size
        self.num_blocks = pool.num_blocks
        self.device = pool.device
        self.dtype = facts.dtype
        tables = BlockTables(max_sequences, -(-max_model_length // pool.block_size))
        self._packer = Packer(tables, pool.block_size, pool.dtype, pool.device)

    @torch.inference_mode()
    def run(self, batch: Batch) -> Tensor:
        """Compute the batch. Returns logits (len(batch.sampled), vocab)."""
        packed = self._packer.pack(batch)
        output = self._model(
            input_ids=packed.token_ids,
            position_ids=packed.positions,
            use_cache=False,
            **({"logits_to_keep": packed.sampled} if self._takes_logits_to_keep else {}),
            **{BATCH_ARGUMENT: PagedAttention(self._pool, packed.paged)},
        )
        logits: Tensor = output.logits[0]
        return logits if self._takes_logits_to_keep else logits.index_select(0, packed.sampled)

    def erase(self, blocks: Items[int]) -> None:
        self._pool.erase(blocks)
