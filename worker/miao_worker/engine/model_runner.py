"""Runs a transformers model over packed batches, its keys and values in a paged pool."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from miao_worker.engine.adapters import files
from miao_worker.engine.adapters.files import Modules
from miao_worker.engine.adapters.linears import attach, linear_modules
from miao_worker.engine.adapters.runner import AdaptingRunner
from miao_worker.engine.adapters.step import Adaptation
from miao_worker.engine.adapters.store import AdapterStore
from miao_worker.engine.attention import BATCH_ARGUMENT, AttentionBackend, PagedAttention
from miao_worker.engine.batch import Batch, ModelRunner
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.cpu.adapt import activation_of
from miao_worker.engine.cpu.fusion import Fusion
from miao_worker.engine.cpu.linears import LinearScheme
from miao_worker.engine.cuda.attention import TritonAttention, uses_triton
from miao_worker.engine.cuda.graphs import Capture, CudaCapture, DecodeGraphs, record_graphs
from miao_worker.engine.cuda.joined_projections import join_projections
from miao_worker.engine.cuda.step import KernelStep, kernel_step
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.loader import load_model, resolve_device
from miao_worker.engine.memory import pool_blocks
from miao_worker.engine.model_probe import ModelFacts, probe
from miao_worker.engine.packing import BlockTables, Packer, StepNumbers
from miao_worker.engine.paged_batch import PagedBatch
from miao_worker.engine.pruning import check_prune, prune_model, say_effect
from miao_worker.engine.quantization import choose_scheme
from miao_worker.engine.speculation.settings import check_speculation

_AT_LEAST_ONE = (
    "block_size",
    "max_sequences",
    "max_batch_tokens",
    "max_model_length",
    "num_threads",
    "tensor_parallel_size",
)


def load_runners(config: EngineConfig) -> tuple[ModelRunner, ModelRunner | None]:
    """Load the model, see that it can be served, and make its pool; so too the draft model.

    Both pools have the same number of blocks, so that the draft model has room
    for whatever runs.
    """
    check_settings(config)
    if config.tensor_parallel_size > 1:
        raise ValueError("several ranks are loaded by tensor_parallel/loading.py")
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = resolve_device(config.device)
    if config.kv_cache_dtype != "auto" and device.type != "cpu":
        raise ModelLoadError(
            f"kv_cache_dtype is {config.kv_cache_dtype}, which CPUs alone have so far; "
            "leave it at auto."
        )
    models = [LoadedModel.of(config, device), *load_draft(config, device)]
    all_facts = [loaded.facts for loaded in models]
    length = max_model_length(config, all_facts[0])
    num_blocks = pool_blocks(config, all_facts, device, length)
    length = fit_length(config, length, num_blocks * config.block_size)
    runners = [loaded.runner(num_blocks, length) for loaded in models]
    return runners[0], runners[1] if len(runners) > 1 else None


def load_draft(config: EngineConfig, device: torch.device) -> list[LoadedModel]:
    """The draft model, where the settings name one."""
    if config.draft_model is None:
        return []
    drafting = replace(config, model=config.draft_model, max_adapters=0)
    return [LoadedModel.of(drafting, device)]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, and how this machine computes it."""

    config: EngineConfig
    model: PreTrainedModel
    facts: ModelFacts
    scheme: LinearScheme | None
    fusion: Fusion | None

    @classmethod
    def of(cls, config: EngineConfig, device: torch.device) -> LoadedModel:
        model = load_model(config, device)
        facts = probe(model, config.model)
        share = None if config.prune is None else prune_model(model, config.prune)
        scheme = choose_scheme(model, config.quantize, config.cpu_kernels, config.prune)
        if config.prune is not None and share is not None:
            say_effect(config.prune, share, are_skipped=scheme is not None and scheme.skips_zeros)
        if scheme is not None:
            facts = replace(facts, dtype=scheme.activations)
        facts = replace(facts, is_cache_rounded=config.kv_cache_dtype == "int8")
        wanted = config.cpu_kernels
        fusion = Fusion.of(model, facts, scheme, config.block_size) if wanted else None
        return cls(config, model, facts, scheme, fusion)

    def runner(self, num_blocks: int, max_model_length: int) -> ModelRunner:
        """Make its pool, and what runs it, with adapters where they are asked for."""
        if not self.config.max_adapters:
            return self._runner(num_blocks, max_model_length, None, {})
        modules, adaptation = linear_modules(self.model), Adaptation()
        runner = self._runner(num_blocks, max_model_length, adaptation, modules)
        store = AdapterStore(
            self.config.max_adapters,
            check=partial(files.check, modules=modules),
            load=partial(files.load, modules=modules, dtype=runner.dtype, device=runner.device),
        )
        return AdaptingRunner(runner, store, adaptation)

    def _runner(
        self,
        num_blocks: int,
        max_model_length: int,
        adaptation: Adaptation | None,
        modules: Modules,
    ) -> ModelRunner:
        config, facts, model = self.config, self.facts, self.model
        pool = KVPool(
            facts.layers,
            num_blocks,
            config.block_size,
            facts.dtype,
            model.device,
            facts.is_cache_rounded,
        )
        length = min(max_model_length, facts.context_length or max_model_length)
        if self.fusion is not None:
            fused = self.fusion.runner(pool, length, config.max_sequences)
            if fused is not None:
                if adaptation is not None:
                    fused.adapt(modules, adaptation, activation_of(model.config))
                return fused
            model = load_model(config, model.device)  # it was taken apart
            if config.prune is not None:
                prune_model(model, config.prune)
        if self.scheme is not None:
            self.scheme.replace_in(model)
        if adaptation is not None:
            attach(model, modules, adaptation)
        elif model.device.type == "cuda":
            join_projections(model)
        runner = TransformersRunner(
            model,
            facts,
            pool,
            length,
            config.max_sequences,
            on_triton=uses_triton(facts, model.device, config.attention),
        )
        if self.scheme is None:
            runner.original_model = model
        if config.cuda_graphs and model.device.type == "cuda":
            runner.record_graphs(CudaCapture(model.device))
        return runner


def check_settings(config: EngineConfig) -> None:
    """Raises ModelLoadError that names the setting."""
    check_speculation(config)
    check_prune(config.prune)
    for name in _AT_LEAST_ONE:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ModelLoadError(f"{name} is {value}; it must be at least 1.")


def max_model_length(config: EngineConfig, facts: ModelFacts) -> int:
    """What is asked for, or the model's own. Raises ModelLoadError where it knows less."""
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


def fit_length(config: EngineConfig, length: int, capacity: int) -> int:
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
    """The engine's `ModelRunner` on the model classes of transformers.

    original_model: the model, where its weights are as they were loaded.
    """

    original_model: PreTrainedModel | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        facts: ModelFacts,
        pool: KVPool,
        max_model_length: int,
        max_sequences: int,
        *,
        on_triton: bool = False,
        keeps_news: bool = False,
    ) -> None:
        """`on_triton`: the attention runs on the Triton kernels.

        keeps_news: what is new in the block tables is asked for.
        """
        self._model = model
        self._takes_logits_to_keep = facts.takes_logits_to_keep
        self._pool = pool
        self._on_triton = on_triton
        self._graphs: DecodeGraphs | None = None
        self._max_sequences = max_sequences
        self.max_model_length = max_model_length
        self.vocab_size = facts.vocab_size
        self.num_blocks = pool.num_blocks
        self.device = pool.device
        self.dtype = pool.dtype
        self._max_blocks = -(-max_model_length // pool.block_size)
        self.tables = BlockTables(max_sequences, self._max_blocks, keeps_news)
        self.packer = Packer(self.tables, pool.block_size, pool.dtype, pool.device)

    @torch.inference_mode()
    def record_graphs(self, capture: Capture) -> None:
        """Run steps that only decode as graphs from now on, if the model can be recorded.

        Only the Triton kernels have the same shapes in every step.
        """
        if self._on_triton:
            self._graphs = record_graphs(
                self._decode,
                capture,
                max_rows=self._max_sequences,
                max_blocks=self._max_blocks,
                num_slots=self._pool.num_blocks * self._pool.block_size,
                device=self.device,
            )

    @torch.inference_mode()
    def run(self, batch: Batch) -> Tensor:
        """Compute the batch. Returns logits, (rows, vocab), of sampled, then of scored rows."""
        numbers, carried = self.packer.numbers(batch), batch.carried
        if self._graphs is not None and not batch.prefills and not batch.is_adapted:
            paged = self.packer.place(numbers)
            logits = self._graphs.run(numbers.token_ids, paged, carried)
            if logits is not None:
                return logits
        return self.compute(numbers, None if carried is None else carried.fill_)

    @torch.inference_mode()
    def compute(self, numbers: StepNumbers, fill: Callable[[Tensor], None] | None) -> Tensor:
        """Compute a batch that is there in numbers. Returns logits as `run`.

        fill: puts the tokens in their places, (tokens,), that only the device knows.
        """
        packed = self.packer.pack(numbers)
        if fill is not None:
            fill(packed.token_ids[0])
        logits = self._forward(
            packed.token_ids, packed.positions, self._attention(packed.paged), packed.sampled
        )
        return logits if self._takes_logits_to_keep else logits.index_select(0, packed.sampled)

    def erase(self, blocks: Items[int]) -> None:
        self._pool.erase(blocks)

    def _attention(self, paged: PagedBatch) -> AttentionBackend:
        if self._on_triton:
            return TritonAttention(self._pool, kernel_step(paged))
        return PagedAttention(self._pool, paged)

    def _decode(self, token_ids: Tensor, positions: Tensor, step: KernelStep) -> Tensor:
        attention = TritonAttention(self._pool, step)
        return self._forward(token_ids[None], positions[None], attention, 0)

    def _forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        attention: AttentionBackend,
        wanted: Tensor | int,
    ) -> Tensor:
        """Logits of the wanted tokens, or of all where the model cannot choose or for 0."""
        output = self._model(
            input_ids=token_ids,
            position_ids=positions,
            use_cache=False,
            **({"logits_to_keep": wanted} if self._takes_logits_to_keep else {}),
            **{BATCH_ARGUMENT: attention},
        )
        logits: Tensor = output.logits[0]
        return logits
