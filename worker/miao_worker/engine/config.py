"""The engine's settings, read once and passed down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What an engine is built from.

    model: a Hugging Face name or a folder.
    device: "cpu", "cuda", "cuda:1"; None takes CUDA where there is one.
    dtype: "auto" (the checkpoint's), "bfloat16", "float16", "float32".
    cache_bytes: size of the KV pool; None takes a share of the free memory.
    max_model_length: tokens of prompt and output together; None takes the model's.
    max_batch_tokens: tokens computed in one step; longer prompts are prefilled in chunks.
    num_threads: CPU threads of the matrix products; None leaves torch's choice.
    """

    model: str
    device: str | None = None
    dtype: str = "auto"
    block_size: int = 16
    cache_bytes: int | None = None
    max_model_length: int | None = None
    max_sequences: int = 64
    max_batch_tokens: int = 2048
    prefix_cache: bool = True
    num_threads: int | None = None
