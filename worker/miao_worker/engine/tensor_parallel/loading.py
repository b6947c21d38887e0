"""Loads a model's shares at all ranks, and makes what runs them.

Each rank reads of the checkpoint, which is mapped into memory, what it keeps. Nobody meets
the others before all have loaded: who cannot can say so then.

    first rank                       the others
    load its share                   load their shares
                 <-  Loaded, or a ModelLoadError
                 Probe  ->
    meet, probe the model            meet, probe the model
                 <-  Room, free memory
                 Serve, the pool's size  ->
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from miao_worker.engine.batch import ModelRunner
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.cpu.linears import LinearScheme
from miao_worker.engine.cuda.attention import uses_triton
from miao_worker.engine.cuda.joined_projections import join_projections
from miao_worker.engine.engine import Engine
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.loader import load_model
from miao_worker.engine.memory import free_bytes, pool_blocks
from miao_worker.engine.model_probe import ModelFacts, probe
from miao_worker.engine.model_runner import (
    TransformersRunner,
    check_settings,
    fit_length,
    load_draft,
    max_model_length,
)
from miao_worker.engine.quantization import choose_scheme
from miao_worker.engine.speculation.methods import make_proposer
from miao_worker.engine.tensor_parallel.checks import check_tensor_parallel, rank_device
from miao_worker.engine.tensor_parallel.group import Group
from miao_worker.engine.tensor_parallel.layers import SharedHead
from miao_worker.engine.tensor_parallel.messages import message_of
from miao_worker.engine.tensor_parallel.ranks import Closable, Ranks
from miao_worker.engine.tensor_parallel.runner import FollowingRunner, LeadingRunner
from miao_worker.engine.tensor_parallel.sharding import take_share

if TYPE_CHECKING:
    from miao_worker.engine.tensor_parallel.ranks import RankPipe


@dataclass(frozen=True, slots=True)
class Loaded:
    """A rank has loaded its share."""


@dataclass(frozen=True, slots=True)
class Probe:
    """All have: meet, and see that the model runs."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are free for a rank's pool."""

    free_bytes: int


@dataclass(frozen=True, slots=True)
class Serve:
    """Make a pool of so many blocks and take steps."""

    num_blocks: int
    max_model_length: int


def fork_ranks(config: EngineConfig, *inherited: Closable) -> Ranks | None:
    """The other ranks, where the settings ask for several; see `Ranks.fork`.

    Raises ModelLoadError for settings that do not go together.
    """
    if config.tensor_parallel_size == 1:
        return None
    check_tensor_parallel(config)
    return Ranks.fork(config.tensor_parallel_size, partial(follow, config), *inherited)


def load_generating(config: EngineConfig, ranks: Ranks | None) -> Engine:
    """An engine, of this process alone or of all ranks. Raises ModelLoadError."""
    if ranks is None:
        return Engine(config)
    runner, draft_runner = _load_leader(config, ranks)
    return Engine(config, runner, make_proposer(config, draft_runner, runner.vocab_size))


def _load_leader(config: EngineConfig, ranks: Ranks) -> tuple[LeadingRunner, ModelRunner | None]:
    """What runs the model at all ranks, and what runs the draft model, at the first one alone."""
    check_settings(config)
    share = _Share.load(config, ranks.group)
    ranks.collect()
    ranks.send(Probe())
    facts = share.probe(ranks.group)
    drafts = load_draft(config, share.device)
    free = min(share.free_bytes(), *(room.free_bytes for room in ranks.collect()))
    length = max_model_length(config, facts)
    models = [facts, *(draft.facts for draft in drafts)]
    num_blocks = pool_blocks(config, models, share.device, length, free)
    length = fit_length(config, length, num_blocks * config.block_size)
    ranks.send(Serve(num_blocks, length))
    leader = LeadingRunner(share.runner(facts, num_blocks, length, keeps_news=True), ranks)
    return leader, next((draft.runner(num_blocks, length) for draft in drafts), None)


def follow(config: EngineConfig, group: Group, pipe: RankPipe) -> None:
    """Be one of the other ranks, until the first one closes the pipe."""
    try:
        share = _Share.load(config, group)
    except ModelLoadError as error:
        pipe.send(error)
        pipe.recv()  # never comes: the first rank says it on, and ends
        return
    pipe.send(Loaded())
    pipe.recv()
    facts = share.probe(group)
    pipe.send(Room(share.free_bytes()))
    serve = pipe.recv()
    runner = share.runner(facts, serve.num_blocks, serve.max_model_length)
    following = FollowingRunner(runner, group)
    with suppress(EOFError):
        while True:
            following.obey(message_of(pipe.recv_bytes()))


@dataclass(frozen=True, slots=True)
class _Share:
    """A rank's share of the model, on its device."""

    config: EngineConfig
    model: PreTrainedModel
    device: torch.device

    @classmethod
    def load(cls, config: EngineConfig, group: Group) -> _Share:
        device = rank_device(config, group.rank)
        if device.type == "cpu":  # the ranks share the cores
            torch.set_num_threads(
                config.num_threads or max(1, torch.get_num_threads() // group.size)
            )
        elif config.kv_cache_dtype != "auto":
            raise ModelLoadError(
                f"kv_cache_dtype is {config.kv_cache_dtype}, which CPUs alone have so far; "
                "leave it at auto."
            )
        model = load_model(config, torch.device("cpu"))
        take_share(model, config.model, group)
        model.to(device)  # type: ignore[arg-type]
        return cls(config, model, device)

    def probe(self, group: Group) -> ModelFacts:
        """Meet the others, see that the model runs, and choose how its products are computed."""
        group.connect(self.device)
        facts = probe(self.model, self.config.model)
        facts = replace(facts, is_cache_rounded=self.config.kv_cache_dtype == "int8")
        scheme = choose_scheme(self.model, self.config.quantize, self.config.cpu_kernels)
        if scheme is not None:
            _replace_products(self.model, scheme)
            facts = replace(facts, dtype=scheme.activations)
        if self.device.type == "cuda":
            join_projections(self.model)
        return facts

    def free_bytes(self) -> int:
        """Of this rank; on a CPU the ranks share what there is."""
        free = free_bytes(self.device)
        return free if self.device.type == "cuda" else free // self.config.tensor_parallel_size

    def runner(
        self, facts: ModelFacts, num_blocks: int, length: int, keeps_news: bool = False
    ) -> TransformersRunner:
        """Make the pool, and what runs the share; without graphs, whose recording is untried."""
        config = self.config
        pool = KVPool(
            facts.layers,
            num_blocks,
            config.block_size,
            facts.dtype,
            self.device,
            facts.is_cache_rounded,
        )
        return TransformersRunner(
            self.model,
            facts,
            pool,
            length,
            config.max_sequences,
            on_triton=uses_triton(facts, self.device, config.attention),
            keeps_news=keeps_news,
        )


def _replace_products(model: PreTrainedModel, scheme: LinearScheme) -> None:
    head = model.get_output_embeddings()
    if isinstance(head, SharedHead) and scheme.head is not None:
        head.use(scheme.head)
    scheme.replace_in(model)
