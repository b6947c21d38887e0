"""Two and three processes that compute a model together say what one says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ranked_engine import run_ranked
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GlmConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
)

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.types import SamplingParams, SequenceOutput, SequenceRequest

VOCAB = 211  # which neither two nor three divide
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_LLAMA = LlamaConfig(**_COMMON)
_WIDE = LlamaConfig(
    **{**_COMMON, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
)


def join_and_leave(
    engine: Engine, requests: Iterable[SequenceRequest]
) -> dict[str, tuple[int, ...]]:
    """The tokens of sequences that are added three steps apart."""
    tokens: dict[str, tuple[int, ...]] = {}
    waiting = list(requests)
    while waiting or engine.has_unfinished:
        if waiting:
            engine.add(waiting.pop(0))
        for _ in range(3):
            for output in engine.step().outputs:
                assert output.error is None, output.error
                tokens[output.sequence_id] = tokens.get(output.sequence_id, ()) + output.token_ids
    return tokens


def say_twice(engine: Engine, requests: list[SequenceRequest], again: int) -> tuple[Any, int]:
    """What all say; then what one says again, and how much of its prompt was cached."""
    tokens = join_and_leave(engine, requests)
    engine.add(requests[again])
    cached = engine.step().outputs[0].num_cached_tokens
    return tokens, cached


def test_each_architecture_says_what_transformers_says(on_torch) -> None:
    """With chunked prefill and a prefix cache, sequences joining and leaving."""
    config = replace(config_of(on_torch.folder), max_batch_tokens=40, block_size=4)
    requests = [on_torch.request(i) for i in range(len(on_torch.prompts))]
    if on_torch.name == "gpt2":
        with pytest.raises(ModelLoadError, match=r"\(gpt2\) has no tensor-parallel plan"):
            run_ranked(config, join_and_leave, requests)
        return
    tokens, cached = run_ranked(config, say_twice, requests, 3)
    assert tokens == {str(i): said for i, said in enumerate(on_torch.expected)}
    assert cached == (len(on_torch.prompts[3]) - 1) // 4 * 4


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory):
    """Random weights for a configuration, in a folder."""

    def saved(config: PretrainedConfig) -> Path:
        torch.manual_seed(1)
        torch.set_num_threads(1)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases too: whoever adds one twice is seen
                parameter.data += 0.1 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp(config.model_type)
        model.save_pretrained(folder)
        return folder

    return saved


@pytest.fixture(scope="module")
def llama(save) -> Path:
    return save(_LLAMA)


def config_of(folder: Path, size: int = 2, **changes: Any) -> EngineConfig:
    base = EngineConfig(
        str(folder),
        device="cpu",
        dtype="float32",
        max_model_length=128,
        cpu_kernels=False,
        num_threads=1,
        tensor_parallel_size=size,
    )
    return replace(base, **changes)


def alone(config: EngineConfig) -> Engine:
    """The same engine in one process."""
    return Engine(replace(config, tensor_parallel_size=1))


def requests_of(**sampling: Any) -> list[SequenceRequest]:
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(VOCAB, (n,), generator=generator).tolist() for n in (3, 41, 16)]
    wanted = {"max_tokens": 16, "temperature": 0.0, **sampling}
    return [
        SequenceRequest(str(i), tuple(prompt), SamplingParams(seed=i, **wanted))
        for i, prompt in enumerate(prompts)
    ]


_NO_GROUPS = {k: v for k, v in _COMMON.items() if k != "num_key_value_heads"}


@pytest.mark.parametrize(
    ("size", "config"),
    [
        pytest.param(3, _LLAMA, id="kv heads shared by ranks"),
        pytest.param(2, LlamaConfig(**{**_COMMON, "num_key_value_heads": 1}), id="one kv head"),
        pytest.param(
            2,
            LlamaConfig(**{**_COMMON, "num_key_value_heads": 3, "tie_word_embeddings": True}),
            id="a kv head in two ranks, tied embeddings",
        ),
        pytest.param(
            2, LlamaConfig(**_COMMON, attention_bias=True, mlp_bias=True), id="biases everywhere"
        ),
        pytest.param(2, MixtralConfig(**_COMMON, num_local_experts=4), id="experts"),
        pytest.param(2, Olmo2Config(**_COMMON), id="gathered for a norm over all heads"),
        pytest.param(2, GPTNeoXConfig(**_NO_GROUPS), id="fused by head"),
        pytest.param(2, GlmConfig(**_COMMON, head_dim=16), id="fused gate"),
        pytest.param(3, Phi3Config(**_COMMON), id="fused attention, kv heads shared"),
    ],
)
def test_other_ways_of_dividing_a_model(save, size: int, config: PretrainedConfig) -> None:
    settings = config_of(save(config), size)
    expected = join_and_leave(alone(settings), requests_of())
    assert run_ranked(settings, join_and_leave, requests_of()) == expected


def logits_of(engine: Engine, requests: list[SequenceRequest]) -> list[Any]:
    """The logits of each step, as arrays."""
    found: list[Any] = []
    run = engine._runner.run

    def keep(batch):
        logits = run(batch)
        found.append(logits.float().numpy().copy())
        return logits

    engine._runner.run = keep
    join_and_leave(engine, requests)
    return found


def test_logits_are_those_of_one_process(llama: Path) -> None:
    config = config_of(llama)
    expected = logits_of(alone(config), requests_of())
    found = run_ranked(config, logits_of, requests_of())
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)
    assert max(abs(step).max() for step in expected) > 1


@pytest.mark.parametrize(
    ("changes", "likeness"),
    [
        pytest.param({}, 0.995, id="16 bits"),
        pytest.param({"quantize": "int8"}, 0.995, id="int8"),
        pytest.param({"quantize": "int4-weight"}, 0.95, id="int4-weight"),
    ],
)
def test_rounded_logits_are_like_those_of_one_process(
    save, changes: dict[str, Any], likeness: float
) -> None:
    """A rank rounds its share: with scales of its own where the sum goes over the ranks."""
    config = config_of(save(_WIDE), dtype="bfloat16", cpu_kernels=True, **changes)
    try:
        engine = alone(config)
    except ModelLoadError:
        with pytest.raises(ModelLoadError):
            run_ranked(config, logits_of, [])
        return
    requests = requests_of(max_tokens=1)
    found = np.concatenate(run_ranked(config, logits_of, requests))
    expected = np.concatenate(logits_of(engine, requests))
    for one, other in zip(found, expected, strict=True):
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > likeness


def outputs_of(engine: Engine, requests: list[SequenceRequest]) -> list[SequenceOutput]:
    for request in requests:
        engine.add(request)
    outputs: list[SequenceOutput] = []
    while engine.has_unfinished:
        outputs += engine.step().outputs
    return outputs


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"overlap": True, "max_batch_tokens": 20}, id="steps that overlap"),
        pytest.param({"speculation": "ngram"}, id="prompt lookup"),
        pytest.param({"speculation": "draft"}, id="a draft model"),
        pytest.param({"kv_cache_dtype": "int8"}, id="a rounded cache"),
    ],
)
def test_what_the_engine_does_goes_through_all_ranks(llama: Path, changes: dict[str, Any]) -> None:
    if changes.get("speculation") == "draft":
        changes = {**changes, "draft_model": str(llama)}
    config = config_of(llama, **changes)
    requests = requests_of(temperature=0.9, top_p=0.9, repetition_penalty=1.1)
    expected = tokens_of(outputs_of(alone(config), requests))
    assert tokens_of(run_ranked(config, outputs_of, requests)) == expected


def tokens_of(outputs: Iterable[SequenceOutput]) -> dict[str, tuple[int, ...]]:
    tokens: dict[str, tuple[int, ...]] = {}
    for output in outputs:
        tokens[output.sequence_id] = tokens.get(output.sequence_id, ()) + output.token_ids
    return tokens


def cancel_and_squeeze(engine: Engine, requests: list[SequenceRequest]) -> tuple[Any, int, int]:
    """Cancel the first amid its output, let the others give way to each other, erase a block."""
    engine.add(requests[0])
    engine.step()
    engine.cancel("0")
    engine._runner.erase([0])
    tokens = tokens_of(outputs_of(engine, requests[1:]))
    stats = engine.step().stats
    return tokens, stats.num_preemptions, stats.num_free_blocks - stats.num_blocks


def test_cancel_and_preemption(llama: Path) -> None:
    config = config_of(llama, block_size=4, max_model_length=64, prefix_cache=False)
    block_bytes = 2 * 2 * 4 * 8 * 4  # layers, keys and values, tokens, dimensions, bytes; one head
    squeezed = replace(config, cache_bytes=17 * block_bytes)
    expected = tokens_of(outputs_of(alone(config), requests_of()[1:]))
    tokens, num_preemptions, missing = run_ranked(squeezed, cancel_and_squeeze, requests_of())
    assert tokens == expected
    assert num_preemptions > 0
    assert missing == 0


def pool_bytes(engine: Engine, _: object = None) -> tuple[int, int]:
    """Bytes of the pool and of the weights, at the first rank."""
    runner = engine._runner
    runner = getattr(runner, "_runner", runner)
    pool = runner._pool
    weights = sum(each.numel() for each in runner._model.parameters())
    return sum(shape.kv_heads for shape in pool.layers.values()), weights


@pytest.mark.parametrize("config", [_LLAMA, Phi3Config(**_COMMON), Gemma3TextConfig(**_COMMON)])
def test_a_rank_holds_half_of_the_pool_and_of_the_weights(save, config: PretrainedConfig) -> None:
    settings = config_of(save(config))
    heads, weights = pool_bytes(alone(settings))
    share = run_ranked(settings, pool_bytes)
    assert share[0] == heads // 2
    assert share[1] < 0.53 * weights


def end_a_rank(engine: Engine, requests: list[SequenceRequest]) -> None:
    """Kill the other rank amid a generation, and wait for what comes of it."""
    (other,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    engine.add(requests[0])
    engine.step()
    os.kill(int(other), signal.SIGKILL)
    signal.pause()


def test_no_rank_goes_on_without_the_others(llama: Path) -> None:
    with pytest.raises(EOFError):  # it has ended, and said nothing
        run_ranked(config_of(llama), end_a_rank, requests_of(max_tokens=64))


def test_what_a_rank_cannot_load_is_said(llama: Path) -> None:
    config = config_of(llama, size=4)
    with pytest.raises(ModelLoadError, match="tensor_parallel_size 4: it has 6 attention heads"):
        run_ranked(config, outputs_of, [])
