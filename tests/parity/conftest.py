"""Small random models of each architecture, and what transformers makes of some prompts.

The weights are drawn wide enough that greedy outputs wander and no two logits
tie; the windows are shorter than the sequences.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.cpu import kernels
from miao_worker.engine.cpu.runner import DecoderRunner
from miao_worker.engine.engine import Engine
from miao_worker.engine.speculation.proposer import Proposer
from miao_worker.engine.types import SamplingParams, SequenceRequest

VOCAB = 211
MAX_TOKENS = 24
PROMPT_LENGTHS = (3, 41, 16, 70, 1, 33)
_ENDLESS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.25,
    "tie_word_embeddings": False,
    **_ENDLESS,
}
_GEMMA: dict[str, Any] = {**_COMMON, "query_pre_attn_scalar": 16}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=256,
        initializer_range=0.25,
        **_ENDLESS,
    ),
    "llama": lambda: LlamaConfig(**_COMMON),
    "qwen2": lambda: Qwen2Config(**_COMMON),
    "qwen3": lambda: Qwen3Config(**_COMMON),
    "mistral": lambda: MistralConfig(**_COMMON, sliding_window=13),
    "gemma2": lambda: Gemma2Config(
        **_GEMMA, sliding_window=13, attn_logit_softcapping=5.0, final_logit_softcapping=30.0
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **_GEMMA, sliding_window=13, layer_types=["sliding_attention", "full_attention"]
    ),
    "phi3": lambda: Phi3Config(**_COMMON),
}


@dataclass(frozen=True)
class Subject:
    """A model in a folder, prompts, and their greedy continuation by transformers."""

    name: str
    folder: Path
    prompts: list[tuple[int, ...]]
    expected: list[tuple[int, ...]]
    small_block: int = 16  # the smallest block size that its engine's path takes
    cpu_kernels: bool = True

    def engine(
        self, proposer: Proposer | None = None, free: bool = False, **changes: Any
    ) -> Engine:
        """`free`: as if no step took any time, so that speculation always pays."""
        base = EngineConfig(
            str(self.folder),
            device="cpu",
            dtype="float32",
            max_model_length=128,
            cpu_kernels=self.cpu_kernels,
        )
        clock = (lambda: 0.0) if free else time.perf_counter
        engine = Engine(replace(base, **changes), proposer=proposer, clock=clock)
        on_kernels = self.cpu_kernels and engine.device == "cpu"
        on_kernels &= engine.block_size % kernels.TILE == 0
        runner = getattr(engine._runner, "_runner", engine._runner)  # beneath the adapters
        assert isinstance(runner, DecoderRunner) == on_kernels
        return engine

    def request(self, index: int, resume_from: int = 0, **sampling: Any) -> SequenceRequest:
        """Prompt `index`, greedy, with the first `resume_from` tokens already there."""
        wanted = {"max_tokens": MAX_TOKENS, "seed": index, "temperature": 0.0, **sampling}
        return SequenceRequest(
            sequence_id=str(index),
            prompt_token_ids=self.prompts[index],
            sampling=SamplingParams(**wanted),
            output_token_ids=self.expected[index][:resume_from],
        )


def run_all(engine: Engine, requests: Iterable[SequenceRequest]) -> dict[str, tuple[int, ...]]:
    """Add all, step to the end; the output tokens of each."""
    tokens: dict[str, tuple[int, ...]] = {}
    for request in requests:
        engine.add(request)
    while engine.has_unfinished:
        for output in engine.step().outputs:
            assert output.error is None, output.error
            tokens[output.sequence_id] = tokens.get(output.sequence_id, ()) + output.token_ids
    return tokens


@pytest.fixture(scope="session")
def run() -> Callable[[Engine, Iterable[SequenceRequest]], dict[str, tuple[int, ...]]]:
    return run_all


@pytest.fixture(scope="session", params=list(CONFIGS))
def on_torch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Each architecture in turn, on torch's operations."""
    subject = _make_subject(request.param, tmp_path_factory)
    return replace(subject, cpu_kernels=False, small_block=4)


@pytest.fixture(scope="session", params=[False, True], ids=["torch", "kernels"])
def subject(request: pytest.FixtureRequest, on_torch: Subject) -> Subject:
    """Each architecture, on torch's operations and on the compiled kernels."""
    if not request.param:
        return on_torch
    if on_torch.name == "gpt2" or not kernels.load():
        pytest.skip("not on the compiled kernels")
    return replace(on_torch, cpu_kernels=True, small_block=16)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    subject = _make_subject("llama", tmp_path_factory)
    return replace(subject, cpu_kernels=kernels.load() is not None)


def _make_subject(name: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    torch.set_num_threads(1)  # the models are too small for more
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation="eager").eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # norms and biases: not all ones and zeros
            parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp(name)
    model.save_pretrained(folder)
    prompts = [tuple(torch.randint(VOCAB, (n,)).tolist()) for n in PROMPT_LENGTHS]
    return Subject(name, folder, prompts, [_generate(model, prompt) for prompt in prompts])


def _generate(model: PreTrainedModel, prompt: tuple[int, ...]) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False
    )
    return tuple(output[0, len(prompt) :].tolist())
