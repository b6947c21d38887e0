"""The engine's settings, read once and passed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CacheDtype = Literal["auto", "int8"]
Explaining = Literal["all", "leave-one-out", "off"]
Quantization = Literal["int8", "int8-weight", "int4-weight", "fp8"]

MAX_SPECULATIVE_TOKENS = 32  # proposed for one sequence in one step


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What an engine is built from.

    model: a Hugging Face name or a folder.
    device: "cpu", "cuda", "cuda:1"; None takes CUDA where there is one.
    dtype: "auto" (the checkpoint's), "bfloat16", "float16", "float32".
    quantize: what the linear layers are rounded to at load. "int8": weights and activations,
        "int8-weight" and "int4-weight": weights alone; "fp8": weights and activations to
        8-bit floats, on GPUs that have them.
    prune: the share of the linear layers' weights to set to zero at load, such as "0.5", the
        smallest of each layer; "2:4": two of every four.
    kv_cache_dtype: what the KV pool holds. "auto": the activations' dtype; "int8": rounded,
        with a scale for each token and head, so that the same memory holds more tokens.
    cache_bytes: size of the KV pool; None takes a share of the free memory.
    max_model_length: tokens of prompt and output together; None takes the model's.
    max_batch_tokens: tokens computed in one step; longer prompts are prefilled in chunks.
    cpu_kernels: on a CPU, use the compiled kernels and products where they serve.
    attention: on a GPU, "triton" (kernels of this package), "torch" (torch's own
        operations), or "auto": triton where it is installed and serves the model.
    cuda_graphs: with triton's attention, replay recorded graphs in steps that only decode.
    overlap: schedule a step while the one before still runs, so that the device never
        waits; tokens come one step later. None: on CUDA. Rests where there is speculation.
    tensor_parallel_size: processes that compute the model together, each with a share of its
        weights and of the KV pool; on GPUs, one for each. Other settings of size are for each.
    num_threads: CPU threads of the matrix products; None leaves torch's choice.
    speculation: "off"; "ngram" proposes what followed the same words before in the
        sequence; "draft" what `draft_model` says, a Hugging Face name or a folder.
    max_adapters: adapters in memory, and so in one batch, at most; 0 serves none.
    num_speculative_tokens: proposed at most for one sequence in a step; None takes
        the method's own.
    explain: how answers can be explained: "all" methods, "leave-one-out" without any gradients,
        or "off".
    explain_bytes: memory that gradients may take at a time, besides the weights. Where those
        that serve are packed or rounded, gradients load a second copy, in float32.
    task: "generate", "embed", "classify" or "rerank"; "auto" reads it from the model's files.
    """

    model: str
    device: str | None = None
    dtype: str = "auto"
    quantize: Quantization | None = None
    prune: str | None = None
    kv_cache_dtype: CacheDtype = "auto"
    block_size: int = 16
    cache_bytes: int | None = None
    max_model_length: int | None = None
    max_sequences: int = 64
    max_batch_tokens: int = 2048
    prefix_cache: bool = True
    max_adapters: int = 0
    cpu_kernels: bool = True
    attention: str = "auto"
    cuda_graphs: bool = True
    overlap: bool | None = None
    tensor_parallel_size: int = 1
    num_threads: int | None = None
    speculation: str = "off"
    draft_model: str | None = None
    num_speculative_tokens: int | None = None
    explain: Explaining = "all"
    explain_bytes: int = 1 << 30
    task: str = "auto"

    @property
    def speculates(self) -> bool:
        """Whether tokens are proposed."""
        return self.speculation != "off"
