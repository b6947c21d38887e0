"""Answers a model's attention calls with the Triton kernels."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from miao_worker.engine.attention import AttentionCall
from miao_worker.engine.cuda.step import QUERIES, KernelStep
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.model_probe import ModelFacts

ATTENTION = ("auto", "triton", "torch")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MAX_DIM = 256
_LEAST = 16  # rows, columns and depth of a product in Triton
_MAX_SPLITS = 32
_PROGRAMS = 264  # that keep a large GPU busy: two for each multiprocessor of an H100

_log = logging.getLogger(__name__)


def uses_triton(facts: ModelFacts, device: torch.device, wanted: str) -> bool:
    """Whether a model's attention runs on the kernels, as "auto", "triton" or "torch" asks.

    Raises ModelLoadError where "triton" cannot be.
    """
    if wanted not in ATTENTION:
        raise ModelLoadError(f"attention is {wanted!r}; it must be one of {', '.join(ATTENTION)}.")
    if wanted == "torch" or (wanted == "auto" and device.type != "cuda"):
        return False
    fault = _fault(facts, device)
    if wanted == "triton" and fault is not None:
        raise ModelLoadError(f"attention is 'triton', but {fault}; use auto.")
    return fault is None


def _fault(facts: ModelFacts, device: torch.device) -> str | None:
    """What the kernels lack."""
    dims = {dim for shape in facts.layers.values() for dim in (shape.key_dim, shape.value_dim)}
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return "it needs a CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if facts.dtype not in _DTYPES:
        return f"it does not compute in {facts.dtype}"
    if max(dims) > _MAX_DIM:
        return f"the model's heads have {max(dims)} dimensions, more than {_MAX_DIM}"
    return _compiler_fault(device)


def _compiler_fault(device: torch.device) -> str | None:
    """Why Triton does not compile here; it needs a C compiler and a driver that it knows."""
    from miao_worker.engine.cuda import kernels

    shares = torch.zeros(1, 1, _LEAST, device=device)
    out = torch.empty(1, _LEAST, device=device)
    try:
        kernels.merge[(1,)](shares, shares, out, VALUE_DIM=_LEAST, VALUE_PAD=_LEAST, SPLITS=1)
    except Exception as error:  # whatever it raises, the model can be served without
        _log.warning("Triton does not compile a kernel (%s)", type(error).__name__)
        return "Triton does not compile a kernel on this machine"
    return None


class TritonAttention:
    """The `AttentionBackend` of one step, or of all steps that a graph replays."""

    def __init__(self, pool: KVPool, step: KernelStep) -> None:
        from miao_worker.engine.cuda import kernels

        self._kernels: Any = kernels
        self._pool = pool
        self._step = step

    def attend(self, call: AttentionCall) -> Tensor:
        """Store the batch's keys and values first: sequences may share blocks within a step."""
        layer = _Layer.of(call, self._pool)
        self._store(call, layer)
        tokens = call.query.shape[1]
        out = call.query.new_empty(tokens, call.query.shape[0], layer.value_dim)
        if self._step.num_decodes:
            self._decode(call, layer, out)
        if len(self._step.tiles):
            self._prefill(call, layer, out)
        return out

    def _store(self, call: AttentionCall, layer: _Layer) -> None:
        key, value = _dense(call.key), _dense(call.value)
        self._kernels.store[(key.shape[1], layer.kv_heads)](
            key,
            value,
            layer.keys,
            layer.values,
            self._step.slots,
            self._pool.num_blocks * self._pool.block_size,
            key.stride(0),
            key.stride(1),
            value.stride(0),
            value.stride(1),
            KV_HEADS=layer.kv_heads,
            **layer.shapes,
        )

    def _decode(self, call: AttentionCall, layer: _Layer, out: Tensor) -> None:
        step, query = self._step, _dense(call.query)
        rows, heads = step.num_decodes, query.shape[0]
        splits = num_splits(rows * layer.kv_heads)
        partial, log_sums = out, out  # not read
        if splits > 1:
            partial = out.new_empty(rows, heads, splits, layer.value_dim, dtype=torch.float32)
            log_sums = out.new_empty(rows, heads, splits, dtype=torch.float32)
        group = heads // layer.kv_heads
        self._kernels.decode[(rows, layer.kv_heads, splits)](
            query,
            layer.keys,
            layer.values,
            out,
            partial,
            log_sums,
            step.lengths,
            step.tables,
            step.width,
            call.scaling,
            call.softcap or 0.0,
            query.stride(0),
            query.stride(1),
            KV_HEADS=layer.kv_heads,
            GROUP=group,
            GROUP_PAD=max(_LEAST, _power_of_two(group)),
            WINDOW=call.window or 0,
            HAS_SOFTCAP=call.softcap is not None,
            SPLITS=splits,
            **layer.shapes,
            **layer.launch,
        )
        if splits > 1:
            self._kernels.merge[(rows * heads,)](
                partial,
                log_sums,
                out,
                VALUE_DIM=layer.value_dim,
                VALUE_PAD=_power_of_two(layer.value_dim),
                SPLITS=splits,
            )

    def _prefill(self, call: AttentionCall, layer: _Layer, out: Tensor) -> None:
        step, query = self._step, _dense(call.query)
        heads = query.shape[0]
        self._kernels.prefill[(len(step.tiles), heads)](
            query,
            layer.keys,
            layer.values,
            out,
            step.tiles,
            step.chunk_tables,
            step.chunk_tables.shape[1],
            call.scaling,
            call.softcap or 0.0,
            query.stride(0),
            query.stride(1),
            KV_HEADS=layer.kv_heads,
            GROUP=heads // layer.kv_heads,
            WINDOW=call.window or 0,
            HAS_SOFTCAP=call.softcap is not None,
            QUERIES=QUERIES,
            **layer.shapes,
            **layer.launch,
        )


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's memory, and what the kernels are compiled for."""

    keys: Tensor
    values: Tensor
    kv_heads: int
    value_dim: int
    shapes: dict[str, int]
    launch: dict[str, Any]

    @classmethod
    def of(cls, call: AttentionCall, pool: KVPool) -> _Layer:
        keys, values = pool.tensors(call.layer)
        key_dim, value_dim = call.key.shape[-1], call.value.shape[-1]
        shapes = {
            "BLOCK_SIZE": pool.block_size,
            "KEY_DIM": key_dim,
            "VALUE_DIM": value_dim,
            "KEY_PAD": max(_LEAST, _power_of_two(key_dim)),
            "VALUE_PAD": max(_LEAST, _power_of_two(value_dim)),
        }
        is_wide = max(key_dim, value_dim) > 128 or keys.dtype == torch.float32
        launch = {
            "TILE": 32 if is_wide else 64,
            "PRECISION": "ieee" if keys.dtype == torch.float32 else "tf32",
            "num_warps": 4,
            "num_stages": 1 if is_wide else 2,
        }
        return cls(keys, values, call.key.shape[0], value_dim, shapes, launch)


def num_splits(num_programs: int) -> int:
    """In how many parts a decode's keys are read, so that few rows fill the GPU.

    A power of two.
    """
    wanted = -(-_PROGRAMS // num_programs)
    return min(_MAX_SPLITS, _power_of_two(wanted))


def _power_of_two(number: int) -> int:
    """The least that is not below, at least 1."""
    return 1 << max(0, number - 1).bit_length()


def _dense(states: Tensor) -> Tensor:
    """(heads, tokens, dim) with each token's dimensions side by side."""
    return states if states.stride(-1) == 1 else states.contiguous()
