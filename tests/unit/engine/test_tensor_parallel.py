"""How a model is divided, told and refused, without another process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, DeepseekV2Config, LlamaConfig

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.model_runner import load_runners
from miao_worker.engine.packing import StepNumbers
from miao_worker.engine.tensor_parallel.checks import check_task, rank_device
from miao_worker.engine.tensor_parallel.group import Group
from miao_worker.engine.tensor_parallel.heads import HeadShare
from miao_worker.engine.tensor_parallel.loading import fork_ranks
from miao_worker.engine.tensor_parallel.messages import ComputeStep, EraseBlocks, message_of
from miao_worker.engine.tensor_parallel.sharding import take_share

TWO = EngineConfig("a/model", device="cpu", tensor_parallel_size=2)


@pytest.mark.parametrize("heads", range(1, 25))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_every_query_head_finds_its_kv_head(heads: int, size: int) -> None:
    if heads % size:
        return
    for kv_heads in (n for n in range(1, heads + 1) if heads % n == 0):
        shares = [HeadShare.of(heads, kv_heads, rank, size) for rank in range(size)]
        assert [head for share in shares for head in share.heads] == list(range(heads))
        for share in shares:
            group = len(share.heads) // len(share.kv_heads)
            for place, head in enumerate(share.heads):
                assert share.kv_heads[place // group] == head // (heads // kv_heads)
        if kv_heads % size == 0:  # none is held twice
            assert sum(len(share.kv_heads) for share in shares) == kv_heads
        if size % kv_heads == 0:
            assert {len(share.kv_heads) for share in shares} == {1}


def test_a_vocabulary_is_divided_whole() -> None:
    for count in (1, 2, 210, 211, 212):
        for size in (2, 3, 4):
            pieces = [Group(rank, size, "").piece_of(count) for rank in range(size)]
            assert [each for piece in pieces for each in piece] == list(range(count))


def numbers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    "step",
    [
        StepNumbers(
            numbers(5, 6, 7, 8), numbers(0, 3), numbers(9, 2), [(1, 0, 2)], numbers(0, 1, 3)
        ),
        StepNumbers(numbers(4), numbers(2), numbers(17), [], numbers(0)),
        StepNumbers(numbers(4, 4), numbers(), numbers(), [(0, 5, 6), (1, 7, 8)], numbers()),
    ],
)
@pytest.mark.parametrize("news", [[], [(0, 0, [4, 5]), (1, 3, [9])]])
def test_a_step_arrives_as_it_was_sent(step: StepNumbers, news) -> None:
    message = message_of(ComputeStep(step, news, has_carried=bool(news)).to_bytes())
    assert isinstance(message, ComputeStep)
    for name in ("token_ids", "rows", "positions", "sampled"):
        sent, arrived = getattr(step, name), getattr(message.numbers, name)
        np.testing.assert_array_equal(arrived, sent)
        assert arrived.dtype == np.int64
    assert message.numbers.chunks == step.chunks
    assert message.news == news
    assert message.has_carried == bool(news)


def test_erased_blocks_arrive() -> None:
    assert message_of(EraseBlocks([3, 1]).to_bytes()) == EraseBlocks([3, 1])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"prune": "2:4"}, "prune 2:4"),
        ({"max_adapters": 4}, "max_adapters 4"),
        ({"task": "embed"}, "task embed"),
        ({"device": "cuda:1"}, "device cuda:1"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0; it must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused_by_both_names(changes, word) -> None:
    with pytest.raises(ModelLoadError) as refused:
        fork_ranks(replace(TWO, **changes))
    assert "tensor_parallel_size" in str(refused.value)
    assert word in str(refused.value)


def test_an_encoder_is_refused_once_it_is_known_to_be_one() -> None:
    check_task(replace(TWO, tensor_parallel_size=1), "embed")
    with pytest.raises(ModelLoadError, match=r"tensor_parallel_size is 2.*task embed"):
        check_task(TWO, "embed")


def test_each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank_device(TWO, 1) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert rank_device(replace(TWO, device=None), 1) == torch.device("cuda", 1)
    assert rank_device(replace(TWO, device="cuda"), 0) == torch.device("cuda", 0)
    with pytest.raises(ModelLoadError, match="tensor_parallel_size is 3, and 2 GPUs are here"):
        rank_device(replace(TWO, device=None, tensor_parallel_size=3), 0)


def test_one_process_does_not_load_a_share_for_the_whole() -> None:
    with pytest.raises(ValueError, match="tensor_parallel/loading"):
        load_runners(TWO)


def test_one_rank_needs_no_other() -> None:
    assert fork_ranks(replace(TWO, tensor_parallel_size=1)) is None


_COMMON = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (
            LlamaConfig(**{**_COMMON, "num_attention_heads": 3, "num_key_value_heads": 1}),
            "it has 3 attention heads",
        ),
        (
            LlamaConfig(**{**_COMMON, "intermediate_size": 97}),
            "its gate_proj has a dimension of 97",
        ),
        (CohereConfig(**_COMMON, use_qk_norm=True), "its q_norm has a weight of its own"),
        (DeepseekV2Config(**_COMMON, n_routed_experts=8, n_group=1, topk_group=1), "cut as"),
    ],
)
def test_what_cannot_be_divided_is_refused(config, word) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelLoadError, match="tensor_parallel_size 2") as refused:
        take_share(model, "a/model", Group(0, 2, ""))
    assert word in str(refused.value)


def test_a_plan_may_cut_the_embedding_too() -> None:
    """As plans of transformers 5.17 do, some of them."""
    config = LlamaConfig(**_COMMON, tie_word_embeddings=True)
    config.base_model_tp_plan = {**config.base_model_tp_plan, "embed_tokens": "embedding_rowwise"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    take_share(model, "a/model", Group(0, 2, ""))
    assert len(model.get_input_embeddings().inner.weight) == 32
    assert model.get_output_embeddings().linear.weight is model.get_input_embeddings().inner.weight
