"""All layers in one call give what they give one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen3Config

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


def sequence(name, length, start, num_blocks, scored_end=0):
    return Sequence(
        sequence_id=name,
        sampling=SamplingParams(max_tokens=9, seed=0),
        token_ids=[(7 * i + len(name)) % 120 for i in range(length)],
        num_prompt_tokens=length,
        scored_end=scored_end,
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
