"""Loads vLLM as an engine. Raises ModelLoadError, never anything of vLLM's own."""

from __future__ import annotations

import multiprocessing
from dataclasses import fields
from typing import Any

import torch

from miao.internal.v1.queue_pb2 import ModelCard
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.explain.engine import ExplainingEngine
from miao_worker.engine.explain.loading import explain_without_gradients
from miao_worker.engine.guidance.vocabulary import VocabularyError
from miao_worker.engine.memory import free_bytes
from miao_worker.engine.protocol import ServingEngine
from miao_worker.engine.types import SamplingParams, SequenceRequest
from miao_worker.engine_loading import with_methods
from miao_worker.model_card import build_model_card
from miao_worker.vllm_engine import environment
from miao_worker.vllm_engine.config import VllmConfig

_CPU_SHARE = 0.4  # of the memory that is free, for the cache
_SEVERAL_PROCESSES = "the engine vllm follows grammars where the model runs in one process"
# Arguments of vLLM's that have an option of ours, or that the boundary rests on.
_OURS = {
    "async_scheduling": "steps are made one after the other",
    "block_size": "use --block-size",
    "data_parallel_size": "start more workers",
    "disable_log_stats": "the worker has its own metrics",
    "dtype": "use --dtype",
    "enable_lora": "the engine vllm serves no adapters here",
    "enable_prefix_caching": "use --no-prefix-cache",
    "generation_config": "fronts read the model's own",
    "kv_cache_memory_bytes": "use --cache-gib",
    "logits_processors": "tokens are drawn by Miao's own sampler",
    "logprobs_mode": "log-probabilities are the model's own",
    "max_logprobs": "fronts have the limit",
    "max_model_len": "use --max-model-length",
    "max_num_batched_tokens": "use --max-batch-tokens",
    "max_num_seqs": "use --max-sequences",
    "model": "use --model",
    "runner": "the engine vllm only generates here",
    "skip_tokenizer_init": "the engine knows token ids alone",
    "speculative_config": "vLLM proposes no tokens where others draw them",
    "stream_interval": "each token is streamed when it comes",
    "tensor_parallel_size": "use --tensor-parallel-size",
    "tokenizer": "the tokenizer is the model's",
}


def load(config: VllmConfig, model_name: str) -> tuple[ExplainingEngine, ModelCard]:
    """The engine, warm, and the model's card. Raises ModelLoadError."""
    environment.prepare()
    try:
        from miao_worker.vllm_engine.engine import VllmEngine
    except ImportError as error:
        raise ModelLoadError(
            f"--engine vllm needs vLLM, which cannot be imported here ({error}); install miao[vllm]"
        ) from error
    check_options(config)
    engine = VllmEngine(_make(config))
    _warm_up(engine)
    card = build_model_card(model_name, config.model, engine)
    card.guide_fault = _follow_grammars(engine, card)
    explaining = explain_without_gradients(engine, explains=config.explains)
    return explaining, with_methods(card, explaining)


def check_options(config: VllmConfig) -> None:
    """Raises ModelLoadError for an option that is ours to decide, or that vLLM does not have."""
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in fields(EngineArgs)}
    for name in config.options:
        if name in _OURS:
            raise ModelLoadError(f"--vllm-option {name} cannot be set: {_OURS[name]}")
        if name not in known:
            raise ModelLoadError(f"--vllm-option {name} is nothing that vLLM's engine takes")


def _make(config: VllmConfig) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    # vLLM spreads a model over processes of its own, which daemons may not have. They
    # end when this one does.
    multiprocessing.current_process().daemon = False
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    try:
        return LLMEngine.from_engine_args(EngineArgs(**_arguments(config)))
    except Exception as error:  # of as many kinds as vLLM has parts
        raise ModelLoadError(f"vLLM cannot serve {config.model}: {_first_line(error)}") from error


def _warm_up(engine: ServingEngine) -> None:
    """Ask once for all that vLLM compiles at its first use, which takes seconds.

    Else the first caller who asks for log-probabilities would hold up everybody.
    """
    sampling = SamplingParams(2, 1, num_logprobs=1, num_prompt_logprobs=1)
    for name in ("one", "two"):
        engine.add(SequenceRequest(name, (1, 2, 3), sampling))
    while engine.has_unfinished:
        engine.step()


def _arguments(config: VllmConfig) -> dict[str, Any]:
    """What vLLM's engine is made with."""
    from vllm.platforms import current_platform

    cache_bytes = config.cache_bytes
    if cache_bytes is None and current_platform.is_cpu():
        cache_bytes = int(free_bytes(torch.device("cpu")) * _CPU_SHARE)
    limits = {
        "block_size": config.block_size,
        "kv_cache_memory_bytes": cache_bytes,
        "max_model_len": config.max_model_length,
    }
    return {
        **config.options,
        **{name: value for name, value in limits.items() if value is not None},
        "model": config.model,
        "dtype": config.dtype,
        "max_num_seqs": config.max_sequences,
        "max_num_batched_tokens": config.max_batch_tokens,
        "tensor_parallel_size": config.tensor_parallel_size,
        "enable_prefix_caching": config.prefix_cache,
        "logits_processors": ["miao_worker.vllm_engine.drawing:Drawing"],
        "max_logprobs": -1,
        "generation_config": "vllm",
        "skip_tokenizer_init": True,
        "async_scheduling": False,
        "disable_log_stats": True,
    }


def _follow_grammars(engine: Any, card: ModelCard) -> str:
    """Let the engine follow grammars; why it cannot, or nothing."""
    if not engine.is_one_process:
        return _SEVERAL_PROCESSES
    try:
        engine.follow_grammars(card.tokenizer_json, card.eos_token_ids)
    except VocabularyError as error:
        return str(error)
    return ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
