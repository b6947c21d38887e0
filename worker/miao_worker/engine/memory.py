"""How large the KV pool becomes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.model_probe import ModelFacts

_SHARE = {"cpu": 0.4, "cuda": 0.85}  # of the memory that is free once the model is loaded
_CGROUP = Path("/sys/fs/cgroup")


def pool_blocks(
    config: EngineConfig,
    models: Iterable[ModelFacts],
    device: torch.device,
    max_model_length: int,
    free: int | None = None,
) -> int:
    """Blocks in each model's pool: what the memory allows, but no more than could ever be used.

    free: bytes of the device that are free; None asks it.
    Raises ModelLoadError where not even one block fits.
    """
    block_bytes = config.block_size * sum(facts.token_bytes for facts in models)
    cache_bytes = config.cache_bytes
    if cache_bytes is None:
        useful = config.max_sequences * -(-max_model_length // config.block_size) * block_bytes
        free = free_bytes(device) if free is None else free
        cache_bytes = min(useful, int(free * _SHARE[device.type]))
    if cache_bytes < block_bytes:
        raise ModelLoadError(
            f"The KV pool of {cache_bytes} bytes holds no block of {block_bytes} bytes; "
            "raise cache_bytes or lower block_size."
        )
    return cache_bytes // block_bytes


def free_bytes(device: torch.device) -> int:
    """Bytes of the device's memory that are free, within the container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(int(psutil.virtual_memory().available), _cgroup_free())


def _cgroup_free() -> int:
    """What the container's limit leaves (cgroup v2); the machine's total where none is set."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = (_CGROUP / "memory.current").read_text().strip()
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return int(psutil.virtual_memory().total)
