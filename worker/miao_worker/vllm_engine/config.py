"""The settings of vLLM as the engine, read once and passed down. Imports nothing of vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class VllmConfig:
    """What a vLLM engine is built from.

    model: a Hugging Face name or a folder.
    dtype: "auto" (the checkpoint's), "bfloat16", "float16", "float32".
    block_size: tokens in a block of the KV cache; None leaves it to vLLM.
    cache_bytes: size of the KV cache; None leaves it to vLLM.
    max_model_length: tokens of prompt and output together; None takes the model's.
    max_batch_tokens: tokens computed in one step; longer prompts are prefilled in chunks.
    tensor_parallel_size: GPUs that compute the model together.
    num_threads: CPU threads; None leaves torch's choice.
    explains: whether answers can be explained, by leaving one token out at a time.
    options: further arguments of vLLM's engine by their names, such as `quantization`.
    """

    model: str
    dtype: str = "auto"
    block_size: int | None = None
    cache_bytes: int | None = None
    max_model_length: int | None = None
    max_sequences: int = 64
    max_batch_tokens: int = 2048
    prefix_cache: bool = True
    tensor_parallel_size: int = 1
    num_threads: int | None = None
    explains: bool = True
    options: Mapping[str, object] = field(default_factory=dict)

    max_adapters: ClassVar[int] = 0
    speculates: ClassVar[bool] = False
