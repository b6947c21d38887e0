"""All layers in one call give what they give one by one, without adapters and with them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    Phi3Config,
    Qwen3Config,
)

from miao_worker.engine.adapters.identity import digest_of
from miao_worker.engine.adapters.linears import linear_modules
from miao_worker.engine.batch import Batch, Prefill
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.cpu import kernels
from miao_worker.engine.model_runner import load_runners
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams

FUNCTIONS = kernels.load()
pytestmark = pytest.mark.skipif(
    FUNCTIONS is None or not FUNCTIONS.has_products,
    reason="needs the compiled products and a CPU that runs them",
)
SHAPE = {
    "vocab_size": 120,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}


def sequence(name, length, start, num_blocks, scored_end=0, adapter=None):
    return Sequence(
        sequence_id=name,
        sampling=SamplingParams(max_tokens=9, seed=0),
        token_ids=[(7 * i + len(name)) % 120 for i in range(length)],
        num_prompt_tokens=length,
        scored_end=scored_end,
        adapter=adapter,
        block_table=list(range(start, start + num_blocks)),
        row=start,
    )


@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config, Gemma2Config])
def test_as_one_by_one(config, quantize, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(**SHAPE), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    runner, _ = load_runners(
        EngineConfig(str(tmp_path), device="cpu", cache_bytes=1 << 22, quantize=quantize)
    )
    decoder = runner._decoder
    assert decoder.fused is not None
    # Rows whose logits are wanted for the prompt's own sake come behind those to draw from.
    long, short = sequence("long", 70, 0, 5), sequence("a", 5, 5, 1, scored_end=5)
    batches = [
        Batch(prefills=[Prefill.of(long, 40)]),  # nothing is sampled of a first chunk
        Batch(prefills=[Prefill.of(short, 5), Prefill.of(long, 30)]),
        Batch(decodes=[short, long]),
    ]
    for batch in batches:
        fused = runner.run(batch)
        runner._decoder = replace(decoder, fused=None)
        expected = runner.run(batch)  # writes the same into the pool once more
        runner._decoder = decoder
        assert torch.equal(fused, expected)
        batch.mark_computed()
        if batch.sampled:
            for each in batch.sampled:
                each.token_ids.append(1)


def write_adapter(folder, modules, targets, rank):
    """As peft writes one; its share is larger than what is there already."""
    tensors = {}
    for path, (inputs, outputs) in modules.items():
        if path.rpartition(".")[2] in targets:
            name = f"base_model.model.{path}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs) / inputs**0.5
            tensors[f"{name}.lora_B.weight"] = 0.5 * torch.randn(outputs, rank)
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("config", [LlamaConfig, Phi3Config, Gemma2Config])
def test_adapters_as_one_by_one(config, quantize, tmp_path):
    """Ranks that are no even number, of parts of a product alone; rows without any between them."""
    torch.manual_seed(0)
    # Heads of 16 and 24 outputs: parts that share a panel, and half of one.
    shape = SHAPE | {"head_dim": 16, "num_key_value_heads": 1, "pad_token_id": 0}
    model = AutoModelForCausalLM.from_config(config(**shape), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    base = EngineConfig(
        str(tmp_path / "base"),
        device="cpu",
        cache_bytes=1 << 22,
        quantize=quantize,
        max_adapters=3,
    )
    adapting, _ = load_runners(base)
    attention = ["q_proj", "v_proj", "qkv_proj"]
    modules = linear_modules(model)
    everything = sorted({path.rpartition(".")[2] for path in modules})
    ids = []
    for number, (targets, rank) in enumerate([(attention, 3), (everything, 6), (["up_proj"], 1)]):
        if number == 2 and config is Phi3Config:
            targets = ["down_proj"]
        folder = write_adapter(tmp_path / str(number), modules, targets, rank)
        ids.append(digest_of(folder))
        adapting.adapters.register(ids[-1], folder)
        assert adapting.adapters.acquire(ids[-1])
    runner = adapting._runner
    decoder = runner._decoder
    assert decoder.fused is not None
    sequences = [
        sequence("long", 70, 0, 5, adapter=ids[0]),
        sequence("ab", 5, 5, 1, scored_end=5, adapter=ids[1]),
        sequence("a", 6, 6, 1),
        sequence("abc", 7, 7, 1, adapter=ids[2]),
    ]
    long, *others = sequences
    for batch in (
        Batch(prefills=[Prefill.of(each, 5) for each in others] + [Prefill.of(long, 40)]),
        Batch(decodes=[others[0]], prefills=[Prefill.of(each, 1) for each in others[1:]]),
        Batch(decodes=others, prefills=[Prefill.of(long, 30)]),
        Batch(decodes=sequences),
    ):
        fused = adapting.run(batch)
        runner._decoder = replace(decoder, fused=None)
        expected = adapting.run(batch)
        runner._decoder = decoder
        plain = runner.run(batch)  # and once more as it was, for what comes after
        assert torch.equal(adapting.run(batch), fused)
        difference = (fused - expected).abs().mean()
        assert difference < 0.03 * expected.abs().mean()
        adapted = [row for row, q in enumerate(batch.sampled) if q.adapter is not None]
        assert ((fused - plain)[adapted].abs().mean(1) > 4 * difference).all()
        batch.mark_computed()
        for each in batch.sampled:
            each.token_ids.append(1)
