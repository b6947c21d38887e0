"""The command line's options for vLLM as the engine. Imports nothing of vLLM."""

from __future__ import annotations

import argparse
import json

from miao_worker.vllm_engine.config import VllmConfig

_GIB = 1 << 30
_CHOOSES = "vLLM chooses by itself"
# Options of Miao's own engine, and what to do instead.
_OTHERS = {
    "device": "vLLM takes the one that it was built for; CUDA_VISIBLE_DEVICES says which",
    "quantize": "use --vllm-option quantization=NAME",
    "prune": "vLLM does not prune",
    "kv_cache_dtype": "use --vllm-option kv_cache_dtype=NAME",
    "no_cpu_kernels": _CHOOSES,
    "attention": "use --vllm-option attention_backend=NAME",
    "no_cuda_graphs": "use --vllm-option enforce_eager=true",
    "no_overlap": "its steps do not overlap here",
    "speculate": "vLLM proposes no tokens where others draw them",
    "draft_model": "vLLM proposes no tokens where others draw them",
    "num_speculative_tokens": "vLLM proposes no tokens where others draw them",
    "adapter": "adapters are served by Miao's own engine",
    "adapter_folder": "adapters are served by Miao's own engine",
    "max_adapters": "adapters are served by Miao's own engine",
    "explain_gib": "gradients are taken by Miao's own engine",
}


def add_engine_option(parser: argparse._ActionsContainer) -> None:
    """The option that chooses the engine."""
    parser.add_argument(
        "--engine",
        choices=["miao", "vllm"],
        default="miao",
        help="what computes: Miao's own engine, or vLLM, which miao[vllm] installs",
    )


def add_options(group: argparse._ActionsContainer) -> None:
    """The options for vLLM alone."""
    group.add_argument(
        "--vllm-option",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of vLLM's engine, its value in JSON or as it stands, such as "
        "quantization=awq; may be given several times",
    )


def vllm_config(
    arguments: argparse.Namespace, defaults: argparse.ArgumentParser, model: str
) -> VllmConfig:
    """The settings that the options say. Raises ValueError for options of another engine."""
    for name, instead in _OTHERS.items():
        if getattr(arguments, name) != defaults.get_default(name):
            raise ValueError(f"{_flag(name)} is not for --engine vllm: {instead}")
    if arguments.task not in ("auto", "generate"):
        raise ValueError("--task: the engine vllm only generates; use --engine miao")
    cache = arguments.cache_gib
    return VllmConfig(
        model=model,
        dtype=arguments.dtype,
        block_size=arguments.block_size,
        cache_bytes=None if cache is None else int(cache * _GIB),
        max_model_length=arguments.max_model_length,
        max_sequences=arguments.max_sequences,
        max_batch_tokens=arguments.max_batch_tokens,
        prefix_cache=not arguments.no_prefix_cache,
        tensor_parallel_size=arguments.tensor_parallel_size,
        num_threads=arguments.num_threads,
        explains=arguments.explain != "off",
        options=dict(arguments.vllm_option),
    )


def _option(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not (separator and name):
        raise argparse.ArgumentTypeError(f"needs NAME=VALUE, not {text!r}")
    try:
        return name.replace("-", "_"), json.loads(value)
    except json.JSONDecodeError:
        return name.replace("-", "_"), value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
